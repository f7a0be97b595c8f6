"""Small surfaces and files of them."""

import numpy as np
import pytest

from topographic.brain import SurfaceMesh


@pytest.fixture
def plane():
    """A rectangle of vertices ``step_mm`` apart, each square cut into two triangles."""

    def make(rows, columns, step_mm=1.0, name="plane"):
        row, column = np.divmod(np.arange(rows * columns), columns)
        positions = np.stack([column * step_mm, row * step_mm, np.zeros(rows * columns)], 1)
        corner = np.flatnonzero((row < rows - 1) & (column < columns - 1))
        first = np.stack([corner, corner + 1, corner + columns], 1)
        second = np.stack([corner + 1, corner + columns + 1, corner + columns], 1)
        return SurfaceMesh(name, positions, np.concatenate([first, second]))

    return make


@pytest.fixture
def save_gifti(tmp_path):
    """Write arrays to a GIFTI file: a surface if a mesh is given, else data by name."""
    nibabel = pytest.importorskip("nibabel", reason="needs the extra topographic[brain]")
    from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiMetaData

    def save(name, content):
        image = GiftiImage()
        if isinstance(content, SurfaceMesh):
            points = content.positions_mm.astype(np.float32)
            image.add_gifti_data_array(GiftiDataArray(points, intent="NIFTI_INTENT_POINTSET"))
            corners = content.triangles.astype(np.int32)
            image.add_gifti_data_array(GiftiDataArray(corners, intent="NIFTI_INTENT_TRIANGLE"))
        else:
            for key, values in content:
                meta = GiftiMetaData({"Name": key} if key else {})
                values = np.asarray(values, dtype=np.float32)
                image.add_gifti_data_array(GiftiDataArray(values, intent="NIFTI_INTENT_ESTIMATE", meta=meta))
        nibabel.save(image, tmp_path / name)
        return tmp_path / name

    return save
