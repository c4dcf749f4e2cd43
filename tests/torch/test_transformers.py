"""Models of Hugging Face, built from their configurations: tokens and masks in a dict, tied weights, `Conv1D`."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'ntkit[torch]'")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from tests.torch import modules  # noqa: E402

from ntkit.torch import EmpiricalNTK  # noqa: E402

TOKENS = torch.randint(1, 13, (4, 6), generator=torch.Generator().manual_seed(0))
MASK = torch.ones(4, 6, dtype=torch.long)
MASK[1, 4:] = 0


def gpt2(kind):
    torch.manual_seed(0)
    settings = transformers.GPT2Config(
        vocab_size=13, n_positions=8, n_embd=8, n_layer=1, n_head=2, num_labels=3, pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    return kind(settings).double().eval()


def bert():
    torch.manual_seed(0)
    settings = transformers.BertConfig(
        vocab_size=13, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=8, num_labels=3,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(settings).double().eval()


def logits(result):
    return result.logits


def last_logits(result):
    return result.logits[:, -1, :4]


CASES = {
    "GPT-2, classes": (lambda: gpt2(transformers.GPT2ForSequenceClassification), logits, False),
    "GPT-2, tied to its embedding": (lambda: gpt2(transformers.GPT2LMHeadModel), last_logits, False),
    "BERT with a mask": (bert, logits, True),
}


@pytest.mark.parametrize("case", CASES)
def test_the_kernel_is_that_of_the_explicit_jacobian(case):
    build, outputs, masked = CASES[case]
    module = build()
    x = {"input_ids": TOKENS} | ({"attention_mask": MASK} if masked else {})
    full = modules.blocks_by_brute_force(module, x, outputs=outputs)
    kernel = EmpiricalNTK(module, outputs=outputs)
    bound = 1e-12 * float(full.abs().max())  # some thousand products in float64
    np.testing.assert_allclose(kernel.full(x), full, rtol=0, atol=bound)
    traced = full.diagonal(dim1=2, dim2=3).mean(-1)
    np.testing.assert_allclose(kernel(x), traced, rtol=0, atol=bound)
    np.testing.assert_allclose(kernel(x, modules.rows(x, slice(2))), traced[:, :2], rtol=0, atol=bound)
    assert all(line.method in ("pairs", "gradients", "whole") for line in kernel.plan(x).lines if line.bytes)


def test_numpy_tokens_give_a_numpy_kernel():
    module = gpt2(transformers.GPT2ForSequenceClassification)
    kernel = EmpiricalNTK(module, outputs=logits, parameters=["score"])
    found = kernel({"input_ids": TOKENS.numpy()})
    assert isinstance(found, np.ndarray)
    torch.testing.assert_close(torch.from_numpy(found), kernel({"input_ids": TOKENS}))
