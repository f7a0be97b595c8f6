"""The command line."""


def main() -> None:
    """Run the `topo` command."""
    raise SystemExit("not yet")
