"""`python -m tests.reference`: write the pages of docs/ that are made from the route table."""

from __future__ import annotations

from tests.reference.pages import PAGES

for path, text in PAGES.items():
    path.write_text(text(), encoding="utf-8")
