"""Networks and layers that know no family."""
