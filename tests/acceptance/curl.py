"""The curl lines of the partner guide, as partners paste them: only host, chain, token and task id are filled in."""

from __future__ import annotations

import json
import subprocess
from typing import Any

_CREATE = r"""
curl -X POST 'https://{Services API hostname}/tasks' \
-H 'Content-Type: application/json' \
-H 'Authorization: Bearer ACCESS_TOKEN_ID:ACCESS_TOKEN_SECRET' \
-d '{
"chain": YOUR_CHAIN_ID,
"desc": "%(desc)s",
"target": {
"action": "export",
"export_index": "%(index)s",
"export_format": "csv"
},
"trigger": {
"once": "2026-05-26T12:00:00Z"%(segment)s
}
}'
"""
_SEGMENT = """,
"segment": {
"entity": "people",
"index": "products",
"join": "all",
"chain_id": YOUR_CHAIN_ID,
"rules": [
{
"field_name": "category",
"field_type": "keyword",
"operator": "is",
"value": "Electronics"
}
]
}
"""

ALL_PRODUCTS = _CREATE % {"desc": "Full products export", "index": "products", "segment": ""}
ALL_VARIANTS = _CREATE % {"desc": "Full product variants export", "index": "product-variants", "segment": ""}
ELECTRONICS = _CREATE % {"desc": "Full products export", "index": "products", "segment": _SEGMENT}
STATUS = r"""
curl 'https://{Services API hostname}/tasks/{TASK_ID}' \
-H 'Authorization: Bearer ACCESS_TOKEN_ID:ACCESS_TOKEN_SECRET'
"""
DOWNLOAD_URL = r"""
curl 'https://{Services API hostname}/tasks/{TASK_ID}/download_url' \
-H 'Authorization: Bearer ACCESS_TOKEN_ID:ACCESS_TOKEN_SECRET'
"""


def paste(line: str, *, url: str, token: str, chain: int, task_id: int | None = None) -> Any:
    """Run one line in a shell and return the JSON it printed."""
    filled = (
        line.replace("https://{Services API hostname}", url)
        .replace("ACCESS_TOKEN_ID:ACCESS_TOKEN_SECRET", token)
        .replace("YOUR_CHAIN_ID", str(chain))
        .replace("{TASK_ID}", str(task_id))
    )
    done = subprocess.run(["sh", "-c", filled], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)
