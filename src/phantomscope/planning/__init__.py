"""How much a config makes the workflow do, and how long it takes."""
