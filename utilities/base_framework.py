"""Command lines of the base framework, and of the code that was published on top of it: the flags
and names that are others here (docs/from_revisiting.md has all of them).
"""
import argparse
import re

# Flags that are taken and decide nothing, as there or because it is always so here: number of their
# values, and which these may be (None: any).
TAKEN = {
    "--no_train_metrics": (0, None),
    "--data_gc_coreset_lim": (None, None),
    "--data_sim_measure": (None, None),
    "--evaltypes": ("+", ["discriminative"]),
}
# Flags that there cannot be, and what to do instead.
REFUSED = {
    "--wandb_key": "--wandb_key would leave your key in the shell's history and the run's files: "
                   "log in with wandb login, or set WANDB_API_KEY",
    "--data_idx_full_prec": "--data_idx_full_prec embeds all images anew after each epoch, here "
                            "every batch replaces its own embeddings: leave it out",
    "--loss_proxynca_lrmulti": "--loss_proxynca_lrmulti multiplies --lr: pass the rate itself as "
                               "--loss_proxynca_lr, 5e-4 for 50 times 1e-5",
    "--loss_softtriplet_lrmulti": "--loss_softtriplet_lrmulti multiplies --lr: pass the rate "
                                  "itself as --loss_softtriplet_lr, 1e-5 for 1 times 1e-5",
}
# Flag, the name of its value there as a pattern, and the name here.
NAMES = (
    ("arch", r"vit(?=$|_frozen|_normalize)", "vit_small"),
    ("data_sampler", r"full_random$", "random"),
    ("loss", r"proxy_anchor$", "proxyanchor"),
)


class Foreign(argparse.Action):
    """A flag that leaves no trace, or is answered with its sentence."""

    def __call__(self, parser, namespace, values, option_string=None):
        if option_string in REFUSED:
            parser.error(REFUSED[option_string])


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of TAKEN and REFUSED; the help does not list them."""
    hidden = {"dest": argparse.SUPPRESS, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    for flag, (count, values) in (TAKEN | dict.fromkeys(REFUSED, ("*", None))).items():
        parser.add_argument(flag, action=Foreign, nargs=count, choices=values, **hidden)


def rename(flags: argparse.Namespace) -> None:
    """Replace the names of that framework by those of here."""
    for flag, there, here in NAMES:
        if value := getattr(flags, flag, None):
            setattr(flags, flag, re.sub(rf"^{there}", here, value))
