"""What evaluation is made of: samples and their features, systems, scores, tables, a page."""
