"""Sections that several recipes share, one file a theme, their rules beside them."""
