"""The commands; one file each. `main.py` turns errors into exit codes, once."""
