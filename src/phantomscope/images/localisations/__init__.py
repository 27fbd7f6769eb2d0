"""Tables of localised molecules: what they are, how they are filtered and drawn."""
