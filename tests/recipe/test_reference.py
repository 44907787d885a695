"""The generated tables are those of the installed libraries, and the reference is that of the schema."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ftkit.recipe.fields import library_fields
from ftkit.recipe.reference import json_schema, markdown

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_the_table_of_fields_is_that_of_the_installed_libraries() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "library_fields.py"), "--check"], capture_output=True)
    assert done.returncode == 0, "run scripts/library_fields.py"


def test_every_field_has_its_sentence() -> None:
    bare = [
        f"{part}.{name}" for part, fields in library_fields().items() for name, field in fields.items() if not field["about"]
    ]
    assert bare == []


def test_the_reference_in_the_docs_is_that_of_the_schema() -> None:
    assert (ROOT / "docs" / "recipe.md").read_text() == markdown(), "run make docs"


def test_the_json_schema_knows_keys_and_short_forms() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["properties"]["model"]["anyOf"][0] == {"type": "string"}
    assert schema["additionalProperties"] is False
    assert "learning_rate" in schema["$defs"]["Training"]["properties"]
    assert schema["$defs"]["Training"]["properties"]["learning_rate"]["description"]
