"""What the model does: how probable it finds sentences, and which of them it prefers."""

from topographic.behaviour.harness import (
    FUNCTIONAL_TASKS,
    evaluate_with_harness,
    functional_competence,
    harness_command,
)
from topographic.behaviour.minimal_pairs import MinimalPairScores, accuracy_interval, minimal_pairs
from topographic.behaviour.next_words import next_word_preference
from topographic.behaviour.surprisal import PROTOCOLS, perplexity, token_log_probabilities
from topographic.behaviour.syntaxgym import Suite, SuiteScores, SyntaxGymScores, load_suites, syntaxgym

__all__ = [
    "FUNCTIONAL_TASKS",
    "PROTOCOLS",
    "MinimalPairScores",
    "Suite",
    "SuiteScores",
    "SyntaxGymScores",
    "accuracy_interval",
    "evaluate_with_harness",
    "functional_competence",
    "harness_command",
    "load_suites",
    "minimal_pairs",
    "next_word_preference",
    "perplexity",
    "syntaxgym",
    "token_log_probabilities",
]
