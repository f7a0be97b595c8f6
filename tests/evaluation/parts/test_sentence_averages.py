from topographic.evaluation import Choices
from topographic.evaluation.parts.sentence_averages import sentence_averages


def test_a_response_that_is_length_is_called_length(readers):
    found = sentence_averages(readers, Choices(n_draws=39, word_folds=4))
    table = found.to_frame().set_index("features")
    assert table.loc["length and position", "r"] > 0.99
    others = table.drop("length and position")
    assert (others["added R2"] < 0.01).all(), "nothing is left to add"
    assert {"untrained", "random tokens"} <= {name.split(",")[0] for name in others.index}
    assert {"GPT2-XL", "OASM"} == set(found["published"].to_frame()["model"])
