"""Why a network says what it says: maps of what it looks at, tests of these maps, and what its features know."""
