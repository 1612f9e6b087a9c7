"""Config texts in the form of source guide 004, with values of its own, for the tests of reading and resolving."""

from __future__ import annotations

LISTOPS = """\
"listops":{
        "dataset":{
            "train":96000,  ### sequences to learn from
            "dev":2000,
            "test":2000,
        },
        "model":{
            "learn_pos_emb":True,
            "tied_weights":False,
            "embedding_dim":512,
            "transformer_hidden_dim":1024,
            "head_dim":64,
            "num_head":8,
            "num_layers":1,
            "vocab_size":32,
            "max_seq_len":2000,
            "dropout_prob":0.1,
            "attention_dropout":0.1,
            "pooling_mode":"MEAN",
            "num_classes":10,
        },
        "training":{
            "mixed_precision": False,
            "batch_size":32,
            "lr_scheduler": "exp_decay",
            "learning_rate":0.001,
            "learning_rate_decay": 0.9,
            "weight_decay":0,
            "num_epochs":20,
            "num_eval_steps":1000,
            "warmup_steps": 1000,
            "final_div_factor":100
        },
        "gpu_memory":{                      ### a remark that ends in a backslash \\
            "softmax":16,
            "hrr-individual":32,
            "hrr-bundled":64,
            "hrr-quadratic":32,
            "tpr":32
        },
        "extra_attn_config":{
            "softmax":{"attention_grad_checkpointing":True},
            "hrr-individual":{"attention_grad_checkpointing":False},
            "hrr-bundled":{"attention_grad_checkpointing":False},
            "hrr-quadratic":{"attention_grad_checkpointing":False},
            "tpr":{"attention_grad_checkpointing":False}
        }
    }
"""

SERVED = {
    "data": {"train": 96000, "dev": 2000, "test": 2000},
    "encoder": {
        "positions": "learned",
        "tied_weights": False,
        "embedding_dim": 512,
        "hidden_dim": 1024,
        "head_dim": 64,
        "num_heads": 8,
        "num_layers": 1,
        "vocab_size": 32,
        "max_seq_len": 2000,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "pooling": "MEAN",
        "num_classes": 10,
    },
    "compute": {"precision": "float32"},
    "update": {"batch_size": 32},
    "schedule": {"kind": "exp_decay", "decay": 0.9, "warmup": 1000, "final_div_factor": 100},
    "optimizer": {"learning_rate": 0.001, "weight_decay": 0},
    "budget": {"epochs": 20},
    "evaluate": {"max_batches": 1000},
    "chunking": {
        "samples_by_kind": {"softmax": 16, "hrr-individual": 32, "hrr-bundled": 64, "hrr-quadratic": 32, "tpr": 32}
    },
    "attention": {
        "options": {
            "softmax": {"grad_checkpointing": True},
            "hrr-individual": {"grad_checkpointing": False},
            "hrr-bundled": {"grad_checkpointing": False},
            "hrr-quadratic": {"grad_checkpointing": False},
            "tpr": {"grad_checkpointing": False},
        }
    },
}
"""What the settings of `LISTOPS` are called and worth today."""
