"""From rows to uploads, where that takes more than a template: transforms, compression, packs."""
