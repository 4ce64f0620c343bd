"""Histories as pages to look at: one HTML file each, viewed without a network. Needs plotly."""
