"""The camera_info of a resized image. Works on any object with the fields of sensor_msgs/CameraInfo."""

from __future__ import annotations

from typing import Any

from vl4ad_ros.io.errors import Vl4adError


def rescale(info: Any, image_size: tuple[int, int], output_size: tuple[int, int], into: Any) -> Any:
    """Fill a camera_info that describes the output image by itself: no binning, no region of interest.

    The input's K and P belong to the full sensor; its region of interest and binning say which part of it, and how
    coarsely, the image shows. The pixel centre convention is OpenCV's, by which the maps are resized:
    x_out = (x_in + 0.5) * scale - 0.5. Distortion and rectification stay.

    Args:
        info: The camera's sensor_msgs/CameraInfo.
        image_size: Rows and columns of the image that came with it.
        output_size: Rows and columns of the published map.
        into: The message to fill; its header is the caller's.

    Returns:
        `into`.

    Raises:
        Vl4adError: If the camera_info does not describe an image of that size.
    """
    bin_x, bin_y = max(info.binning_x, 1), max(info.binning_y, 1)
    roi = info.roi
    full_width, full_height = roi.width or info.width, roi.height or info.height
    sizes = ((full_height, bin_y, image_size[0]), (full_width, bin_x, image_size[1]))
    # A driver may round a size that the binning does not divide either way.
    fits = (size // by <= seen <= -(-size // by) for size, by, seen in sizes)
    if not all(fits):
        raise Vl4adError(
            f"camera_info describes an image of {full_width // bin_x}x{full_height // bin_y}, but the image is "
            f"{image_size[1]}x{image_size[0]}."
        )
    scale_x = output_size[1] / (image_size[1] * bin_x)
    scale_y = output_size[0] / (image_size[0] * bin_y)

    def scaled(matrix: Any, columns: int) -> list[float]:
        values = [float(value) for value in matrix]
        for column in range(columns):
            values[column] *= scale_x
            values[columns + column] *= scale_y
        # The principal point is a position: shifted by the region of interest, and scaled about the pixels' corners.
        if any(values):
            values[2] += (0.5 - roi.x_offset) * scale_x - 0.5
            values[columns + 2] += (0.5 - roi.y_offset) * scale_y - 0.5
        return values

    into.height, into.width = output_size
    into.distortion_model = info.distortion_model
    into.d = info.d
    into.r = info.r
    into.k = scaled(info.k, 3)
    into.p = scaled(info.p, 4)
    into.binning_x = into.binning_y = 0
    into.roi.x_offset = into.roi.y_offset = into.roi.width = into.roi.height = 0
    into.roi.do_rectify = False
    return into
