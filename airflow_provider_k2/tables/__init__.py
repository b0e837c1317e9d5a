"""The table list: its model, how it is read from YAML, and the nine standard tables."""
