"""Write openapi.json, the committed copy of the contract: `python -m tests.contract.write_openapi`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.api.conftest import Contract

if __name__ == "__main__":
    document = Contract().document
    document |= {"servers": [], "info": document["info"] | {"version": ""}}
    path = Path(__file__).parents[2] / "openapi.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
