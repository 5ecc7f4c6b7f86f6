"""Pictures and texts in one space: frozen CLIP-like models, and how a small one is taught."""
