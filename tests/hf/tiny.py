"""The tiny tokenizers and models of the examples, and a template as of models that think."""

import torch
from tiny import TEMPLATE as TEMPLATE
from tiny import make_model as make_model
from tiny import make_tokenizer as make_tokenizer
from tiny import words_of as words_of

# Matrices of this size are slower on several threads, above all if other tests run beside them.
torch.set_num_threads(1)
# As Qwen3's: an empty thought begins the last turn and, if the model is not to think, the next; earlier turns lack it.
EMPTY_THOUGHT = TEMPLATE.replace("{% generation %}", "{% if loop.last %}<think> {% endif %}{% generation %}").replace(
    "<assistant> {% endif %}", "<assistant> {% if enable_thinking is false %}<think> {% endif %}{% endif %}"
)
ARCHITECTURES = ("llama", "gpt2", "qwen2")
