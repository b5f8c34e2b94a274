"""The custom handler of an Inference Endpoint: requests in, answers out.

A request, and what is answered to it:

    {"inputs": {"image": "https://example.org/meme.png", "text": "what a lovely day"},
     "parameters": {"top_k": 1, "tasks": ["sentiment"]}}

    {"answers": {"sentiment": {"labels": ["positive"], "scores": [{"label": "positive", "score": 0.93}],
                               "thresholds": {}, "value": null, "interval": null}}}

`inputs` is a row or a list of rows, and the answer to a list is a list. A row is an object with `image`,
`text` or both, or an image alone. An image is base64, a `data:` address with base64 in it, or the `https://`
address of a public host. `parameters` may be left out: `top_k`, `tasks`, `function_to_apply`, `explain`.

It needs transformers 5.17 or newer; the card says which image of an endpoint has it.
"""

from typing import Any

from transformers import pipeline


class EndpointHandler:
    """Answers requests with the model in a folder.

    Args:
        path: Folder of the model, which holds its code too; that code is run.
    """

    def __init__(self, path: str = "") -> None:
        self.pipeline = pipeline("image-classification", model=path, trust_remote_code=True)

    def __call__(self, data: dict[str, Any]) -> Any:
        """The answer to one request, as JSON holds it.

        Args:
            data: The request.

        Raises:
            ValueError: If the request does not fit or is above a limit, naming the field, the value and the
                remedy; an endpoint answers with status 400 and this text.
        """
        return self.pipeline.answer_request(self.pipeline.read_request(data))
