"""Reports: terminal, page, summary, exports."""
