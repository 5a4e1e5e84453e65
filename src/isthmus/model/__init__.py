"""The nouns and the rules: frozen dataclasses on the standard library alone, no I/O."""
