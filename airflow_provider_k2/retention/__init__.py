"""The deletion gate: warm rows go only when the cold tier is proven to hold them."""
