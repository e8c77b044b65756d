"""Small Core ML packages for tests: descriptions that are read, never run."""

from __future__ import annotations

from pathlib import Path

from rtfleet_agent.runtimes import coreml_spec

CT = coreml_spec.coremltools()
ARRAYS = {name: CT.proto.FeatureTypes_pb2.ArrayFeatureType.ArrayDataType.Value(name) for name in coreml_spec._DTYPES}


class Package:
    """Collects what a model says of itself; `save` makes the folder."""

    def __init__(self, version: int = 8) -> None:
        self.spec = CT.proto.Model_pb2.Model()
        self.spec.specificationVersion = version
        self.spec.neuralNetwork.SetInParent()

    def input(self, name: str, shape: list[int], dtype: str = "FLOAT32", **flexible: object) -> Package:
        return self._tensor(self.spec.description.input, name, shape, dtype, **flexible)

    def output(self, name: str, shape: list[int], dtype: str = "FLOAT32", **flexible: object) -> Package:
        return self._tensor(self.spec.description.output, name, shape, dtype, **flexible)

    def state(self, name: str, shape: list[int]) -> Package:
        feature = self.spec.description.state.add()
        feature.name = name
        _fill(feature.type.stateType.arrayType, shape, "FLOAT16")
        return self

    def image(self, name: str) -> Package:
        feature = self.spec.description.input.add()
        feature.name = name
        feature.type.imageType.width = feature.type.imageType.height = 8
        return self

    def save(self, path: Path) -> Path:
        CT.models.utils.save_spec(self.spec, str(path))
        return path

    def _tensor(self, features, name: str, shape: list[int], dtype: str, ranges=(), shapes=()) -> Package:
        feature = features.add()
        feature.name = name
        array = feature.type.multiArrayType
        _fill(array, shape, dtype)
        for low, high in ranges:
            array.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
        for each in shapes:
            array.enumeratedShapes.shapes.add(shape=each)
        return self


def _fill(array, shape: list[int], dtype: str) -> None:
    array.shape.extend(shape)
    array.dataType = ARRAYS[dtype]
