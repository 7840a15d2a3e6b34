"""What the commands share: one-line errors, progress on stderr, JSON on stdout, a config file.

Importing this must stay cheap: `--help` of a command imports neither torch nor onnx.
"""

from aether_deploy.cli.app import COMMANDS, Command, main
from aether_deploy.cli.config import config_option
from aether_deploy.cli.options import (
    DEVICE,
    Choice,
    ShapeType,
    checkpoint_options,
    device_option,
    images_option,
    json_option,
    overwrite_option,
    require_readable,
    trust_option,
    verbose_option,
)
from aether_deploy.cli.output import (
    console,
    mark,
    next_command,
    print_json,
    progress,
    same_command,
    say,
    say_error,
    show_cases,
    show_verdict,
    without_tf32,
)

__all__ = [
    "COMMANDS",
    "DEVICE",
    "Choice",
    "Command",
    "ShapeType",
    "checkpoint_options",
    "config_option",
    "console",
    "device_option",
    "images_option",
    "json_option",
    "main",
    "mark",
    "next_command",
    "overwrite_option",
    "print_json",
    "progress",
    "require_readable",
    "same_command",
    "say",
    "say_error",
    "show_cases",
    "show_verdict",
    "trust_option",
    "verbose_option",
    "without_tf32",
]
