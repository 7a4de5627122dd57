"""Compares Encaje with transformers and sentence-transformers over thousands of combinations of settings: `make parity`."""
