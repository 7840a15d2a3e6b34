# The one table of public names: `__init__.py` reads it when a name is first used, type checkers and editors as it is.

from .artifacts.checkpoint_file import FuseResult as FuseResult
from .artifacts.checkpoint_file import fuse_checkpoint as fuse_checkpoint
from .artifacts.comparing import compare as compare
from .artifacts.inspection import inspect_file as inspect_file
from .artifacts.model import Artifact as Artifact
from .artifacts.model import ExportOptions as ExportOptions
from .artifacts.model import ExportPlan as ExportPlan
from .artifacts.opening import open_artifact as open_artifact
from .artifacts.opening import open_runner as open_runner
from .artifacts.pipeline import export_model as export_model
from .artifacts.pipeline import plan_export as plan_export
from .artifacts.verification import FileCheck as FileCheck
from .artifacts.verification import verify_files as verify_files
from .engines.plan import EngineOptions as EngineOptions
from .errors import AetherDeployError as AetherDeployError
from .errors import CheckpointError as CheckpointError
from .errors import ConfigError as ConfigError
from .errors import EngineError as EngineError
from .errors import ExportError as ExportError
from .errors import ImageError as ImageError
from .errors import ManifestError as ManifestError
from .errors import NeosrError as NeosrError
from .errors import OutOfMemoryError as OutOfMemoryError
from .errors import ReparameterizationError as ReparameterizationError
from .errors import RunnerError as RunnerError
from .network.aether import fuse_aether as fuse_aether
from .network.aether_spec import fuse_state_dict as fuse_state_dict
from .network.checkpoint import Checkpoint as Checkpoint
from .network.checkpoint import load_checkpoint as load_checkpoint
from .network.family import NetworkSpec as NetworkSpec
from .pictures.upscale_any import Upscaled as Upscaled
from .pictures.upscale_any import upscale as upscale
from .precisions.variant import Variant as Variant
from .precisions.variant import variants as variants
from .proof.comparison import Comparison as Comparison
from .proof.manifest import Manifest as Manifest
from .proof.manifest import read_manifest as read_manifest
from .proof.reference import Trained as Trained
from .proof.verdict import ParityError as ParityError
from .proof.verdict import ParityReport as ParityReport
from .runners.protocol import Runner as Runner

__version__: str
__all__: list[str]
