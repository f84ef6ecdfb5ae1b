"""Make ESPnet's token list from training texts: characters, the pieces of a sentencepiece model trained here, or words."""

import argparse
import io
import logging
from collections import Counter
from pathlib import Path

import sentencepiece

from espnet_ctx.files import UserError, read_table, run_main, whole_file
from espnet_ctx.scoring.slue_text import END, TAGS

BLANK, UNK, SOS_EOS, SPACE = "<blank>", "<unk>", "<sos/eos>", "<space>"


def characters(texts: list[str]) -> list[str]:
    """The characters of the texts, the most frequent first."""
    counts = Counter(SPACE if char == " " else char for text in texts for char in text)
    return sorted(counts, key=lambda char: (-counts[char], char))


def train_bpe(texts: list[str], nbpe: int, symbols: list[str]) -> bytes:
    """A sentencepiece unigram model with `nbpe` pieces.

    Args:
        texts: what it is trained on.
        nbpe: number of pieces, those of `symbols` among them.
        symbols: words that are always one piece.

    Raises:
        UserError: the texts do not give that many pieces.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=nbpe,
            character_coverage=1.0,
            # with the mark of a word's beginning, which is a piece of its own otherwise
            user_defined_symbols=[f"\N{LOWER ONE EIGHTH BLOCK}{symbol}" for symbol in symbols],
            minloglevel=2,
        )
    except RuntimeError as e:
        raise UserError(f"sentencepiece cannot make {nbpe} pieces of these texts (option --nbpe): {e}") from None
    return model.getvalue()


def pieces(model: bytes) -> list[str]:
    """The pieces of a model without its control symbols."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    numbers = range(processor.get_piece_size())
    return [processor.id_to_piece(i) for i in numbers if not (processor.is_control(i) or processor.is_unknown(i))]


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python -m espnet_ctx.bin.make_token_list --text dump/raw/train/text --token_type char "
        "--out data/token_list/char",
    )
    parser.add_argument("--text", type=Path, required=True, help="Kaldi text of the training set")
    parser.add_argument("--token_type", choices=["char", "bpe", "word"], required=True, help="word: for classes")
    parser.add_argument("--nbpe", type=int, default=300, help="number of pieces, for --token_type bpe")
    parser.add_argument("--tags", choices=TAGS, help="the texts have tagged entities: the tags are pieces, for --token_type bpe")
    parser.add_argument("--out", type=Path, required=True, help="folder for tokens.txt and, for bpe, bpe.model")
    return parser


def main(cmd=None) -> None:
    logging.basicConfig(level=logging.INFO, format="make_token_list: %(message)s")
    args = get_parser().parse_args(cmd)
    texts = [text for text in read_table(args.text).values() if text]
    if not texts:
        raise UserError(f"{args.text} has no words")
    if args.token_type == "word":
        words = sorted({word for text in texts for word in text.split()})
        with whole_file(args.out / "tokens.txt") as f:
            f.writelines(f"{word}\n" for word in (*words, UNK))
        logging.info(f"{args.out / 'tokens.txt'}: {' '.join(words)}")
        return
    if args.token_type == "bpe":
        model = train_bpe(texts, args.nbpe, [*TAGS[args.tags].values(), END] if args.tags else [])
        tokens = pieces(model)
        with whole_file(args.out / "bpe.model", "wb") as f:
            f.write(model)
    else:
        tokens = characters(texts)
    with whole_file(args.out / "tokens.txt") as f:
        f.writelines(f"{token}\n" for token in (BLANK, UNK, *tokens, SOS_EOS))
    logging.info(f"{args.out / 'tokens.txt'}: {len(tokens) + 3} tokens")


if __name__ == "__main__":
    run_main(main)
