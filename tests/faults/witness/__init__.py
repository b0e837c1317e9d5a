"""What the laboratory sees with its own eyes: no hook, reader or rule of the product is used below this folder."""
