"""The schema of JUnit XML, by which files are checked that a CI service reads."""

from pathlib import Path

import xmlschema

SCHEMA = xmlschema.XMLSchema(
    Path(__file__).resolve().parents[1] / "data" / "junit.xsd"
)
