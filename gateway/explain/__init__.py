"""Why somebody can or cannot read something, for administrators."""
