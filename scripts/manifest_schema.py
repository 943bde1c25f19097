"""Print the JSON schema of manifest.json.

.venv/bin/python scripts/manifest_schema.py >docs/manifest.schema.json
"""

import json

from edgecnn.bundle import Manifest


def main() -> None:
    """Print the schema that the pydantic models define."""
    print(json.dumps(Manifest.model_json_schema(by_alias=True, mode="validation"), indent=2))


if __name__ == "__main__":
    main()
