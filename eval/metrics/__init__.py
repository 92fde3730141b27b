"""Metrics: each in one file with its formula and source, over plain values, without a model.

Ranking, binary relevance, one question at a time:

    recall             recall at k
    precision          precision at k
    reciprocal_rank    1 / rank of the first hit; its mean is MRR
    ndcg               normalised discounted cumulative gain
    average_precision  its mean is MAP

Answers, one at a time, against the accepted ones:

    squad              exact match and token F1 by SQuAD's rules
    contains           an accepted answer stands in it; numbers within 1 %
    nuggets            the share of the facts needed that stand in it
    rouge              ROUGE-L
    bleu               sentence BLEU
    perplexity         of the accepted answers

What stands behind an answer:

    faithfulness       supported claims among all claims
    citations          markers, quotes, cited pages, claims with a citation

When it answers, and how sure it is, over a whole set:

    abstention         accuracy, precision, recall and F1 of keeping silent
    risk_coverage      risk against coverage, AURC, coverage at an accuracy
    calibration        ECE, the bins of a reliability diagram, Brier score
    auroc              how well a score tells two kinds apart

And what goes with any of them:

    latency            p50 and p95
    bootstrap          95 % intervals and paired differences, clusters resampled

A share is between 0 and 1, never in per cent. What has no value is None: it is left out of a mean
and counted.
"""
