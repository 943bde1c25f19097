"""What every record on disk has in common, and the machine that figures are measured on."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

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
