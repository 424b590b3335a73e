"""Reports: one HTML file each, which one can send. It loads nothing and runs no script."""
