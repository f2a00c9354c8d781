"""Pictures of programs: a tree as text, Mermaid, SVG, one HTML page; with a run, what happened where. Runs nothing."""
