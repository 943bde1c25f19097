"""What every record on disk has in common, and the machine that figures are measured on."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MANIFEST = "manifest.json"


def _refuse_manifest(name: str) -> str:
    if name.lower() == MANIFEST:
        raise ValueError("the manifest is no artifact of itself")
    return name


# No separator can occur in it, so a manifest cannot point out of its folder.
# Nor can it name the manifest, which a commit would then take away as a stale file.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"), AfterValidator(_refuse_manifest)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Record(BaseModel):
    """Base of everything in a manifest: frozen, keyword-only, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class MachineRecord(Record):
    """The machine a figure was measured on, and the software it ran."""

    system: str
    architecture: str
    cpu: str
    cores: int
    cpu_features: tuple[str, ...]
    versions: dict[str, str]
    load_average: float | None
