"""Follow PBS jobs as they change."""
