"""The `ftkit` command, and `python -m ftkit`. Where a library is broken that all commands need, one line says so."""

import sys


def main() -> None:
    try:
        from ftkit.cli.main import main as command
    except Exception as error:  # a broken library may raise anything while it is imported
        from ftkit.doctor.bare import without_libraries

        sys.exit(without_libraries(sys.argv[1:], error))
    command()


if __name__ == "__main__":
    main()
