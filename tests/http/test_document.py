"""What the OpenAPI document promises is kept, whatever a stranger sends."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.http.conftest import serving_http

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
EXAMPLES = 10  # of each call


async def test_generated_requests_find_no_server_error_and_no_undocumented_answer() -> None:
    async with serving_http() as api:
        url = f"{api.http.base_url}/openapi.json"
        arguments = ["run", str(url), "--checks", CHECKS, "--max-examples", str(EXAMPLES), "--seed", "7"]
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("schemathesis")),
            *arguments,
            "--no-color",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await process.communicate()
        assert process.returncode == 0, told.decode()[-6000:]
