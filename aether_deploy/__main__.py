"""`python -m aether_deploy`, the same as `aether-deploy`."""

from aether_deploy.cli.app import main

if __name__ == "__main__":
    main(prog_name="aether-deploy")
