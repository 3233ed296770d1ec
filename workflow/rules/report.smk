# Pictures and tables of the report. A label with two values becomes a toggle there, and every combination of toggles must
# exist; hence subcategories.


rule plot_certified_accuracy:
    input:
        cert=of_run("dpa_cert"),
    output:
        picture=report(
            "results/pictures/{beside}certified_accuracy.svg",
            caption="../report/picture.rst",
            category="2 Partition aggregation",
            subcategory="Overview",
            labels=labelled("certified accuracy"),
        ),
        caption="results/pictures/{beside}certified_accuracy.rst",
    log:
        "results/logs/{beside}plot_certified_accuracy.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_certified_accuracy.py"),
        confidence=config["confidence"],
    script:
        "../scripts/plot_certified_accuracy.py"


rule plot_family:
    input:
        certificates="results/{dataset}/dpa/clean/k{k}d{d}{seeds}/certificates.csv.gz",
        members="results/{dataset}/dpa/clean/k{k}d{d}{seeds}/members.csv",
    output:
        vote_margins=report(
            "results/{dataset}/dpa/clean/k{k}d{d}{seeds}/pictures/vote_margins.svg",
            caption="../report/vote_margins.rst",
            category="2 Partition aggregation",
            subcategory=ensemble_in_words,
            labels={"result": "vote margins"},
        ),
        vote_margins_caption="results/{dataset}/dpa/clean/k{k}d{d}{seeds}/pictures/vote_margins.rst",
        partition_sizes=report(
            "results/{dataset}/dpa/clean/k{k}d{d}{seeds}/pictures/partition_sizes.svg",
            caption="../report/partition_sizes.rst",
            category="2 Partition aggregation",
            subcategory=ensemble_in_words,
            labels={"result": "partition sizes"},
        ),
        partition_sizes_caption="results/{dataset}/dpa/clean/k{k}d{d}{seeds}/pictures/partition_sizes.rst",
        base_accuracies=report(
            "results/{dataset}/dpa/clean/k{k}d{d}{seeds}/pictures/base_accuracies.svg",
            caption="../report/base_accuracies.rst",
            category="2 Partition aggregation",
            subcategory=ensemble_in_words,
            labels={"result": "base accuracies"},
        ),
        base_accuracies_caption="results/{dataset}/dpa/clean/k{k}d{d}{seeds}/pictures/base_accuracies.rst",
    log:
        "results/logs/{dataset}/dpa/clean/k{k}d{d}{seeds}/plot_family.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_family.py"),
    script:
        "../scripts/plot_family.py"


rule plot_trigger:
    input:
        data="results/{dataset}/data/clean.h5",
        triggered="results/{dataset}/data/triggered/{trigger}.h5",
    output:
        picture=report(
            "results/{dataset}/data/triggered/{trigger}.svg",
            caption="../report/picture.rst",
            category="3 Backdoors",
            subcategory="Triggers",
            labels={"result": "{trigger}"},
        ),
        caption="results/{dataset}/data/triggered/{trigger}.rst",
    log:
        "results/logs/{dataset}/plot_trigger/{trigger}.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_trigger.py"),
    script:
        "../scripts/plot_trigger.py"


# All pictures of one attack. The report has a toggle for what was trained on, and can have no second one.
rule plot_backdoor:
    input:
        matrix="results/backdoor_matrix.csv",
        cert="results/dpa_cert.csv",
    output:
        success_rate=report(
            "results/pictures/backdoor/{attack}/success_rate.svg",
            caption="../report/success_rate.rst",
            category="3 Backdoors",
            subcategory="{attack}",
            labels={"result": "attack success rate"},
        ),
        success_rate_caption="results/pictures/backdoor/{attack}/success_rate.rst",
        certified_and_empirical=report(
            "results/pictures/backdoor/{attack}/certified_and_empirical.svg",
            caption="../report/certified_and_empirical.rst",
            category="3 Backdoors",
            subcategory="{attack}",
            labels={"result": "certified and empirical"},
        ),
        certified_and_empirical_caption="results/pictures/backdoor/{attack}/certified_and_empirical.rst",
        certified_clean_clean=report(
            "results/pictures/backdoor/{attack}/certified_clean_clean.svg",
            caption="../report/certified_clean_clean.rst",
            category="3 Backdoors",
            subcategory="{attack}: certified, clean test images",
            labels={"result": "certified accuracy", "trained on": "clean"},
        ),
        certified_clean_clean_caption="results/pictures/backdoor/{attack}/certified_clean_clean.rst",
        certified_clean_triggered=report(
            "results/pictures/backdoor/{attack}/certified_clean_triggered.svg",
            caption="../report/certified_clean_triggered.rst",
            category="3 Backdoors",
            subcategory="{attack}: certified, triggered test images",
            labels={"result": "certified accuracy", "trained on": "clean"},
        ),
        certified_clean_triggered_caption="results/pictures/backdoor/{attack}/certified_clean_triggered.rst",
        certified_poisoned_clean=report(
            "results/pictures/backdoor/{attack}/certified_poisoned_clean.svg",
            caption="../report/certified_poisoned_clean.rst",
            category="3 Backdoors",
            subcategory="{attack}: certified, clean test images",
            labels={"result": "certified accuracy", "trained on": "poisoned"},
        ),
        certified_poisoned_clean_caption="results/pictures/backdoor/{attack}/certified_poisoned_clean.rst",
        certified_poisoned_triggered=report(
            "results/pictures/backdoor/{attack}/certified_poisoned_triggered.svg",
            caption="../report/certified_poisoned_triggered.rst",
            category="3 Backdoors",
            subcategory="{attack}: certified, triggered test images",
            labels={"result": "certified accuracy", "trained on": "poisoned"},
        ),
        certified_poisoned_triggered_caption="results/pictures/backdoor/{attack}/certified_poisoned_triggered.rst",
    log:
        "results/logs/plot_backdoor/{attack}.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_backdoor.py"),
        variants=lambda wildcards: variants_of(wildcards.attack),
        trigger=lambda wildcards: ATTACKS[wildcards.attack].trigger_name,
        confidence=config["confidence"],
    script:
        "../scripts/plot_backdoor.py"


rule plot_greedy:
    input:
        attacks="results/{dataset}/dpa/clean/k{k}d1/greedy.csv",
    output:
        picture=report(
            "results/{dataset}/dpa/clean/k{k}d1/pictures/greedy.svg",
            caption="../report/picture.rst",
            category="3 Backdoors",
            subcategory="Attacks on votes",
            labels={"result": "certificate and real attack, k = {k}"},
        ),
        caption="results/{dataset}/dpa/clean/k{k}d1/pictures/greedy.rst",
    log:
        "results/logs/{dataset}/dpa/clean/k{k}d1/plot_greedy.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_greedy.py"),
        confidence=config["confidence"],
    script:
        "../scripts/plot_greedy.py"


rule plot_noised:
    input:
        cert="results/rab_cert.csv",
    output:
        clean=report(
            "results/pictures/rab/{rab_variant}/clean.svg",
            caption="../report/noised_clean.rst",
            category="4 RAB",
            subcategory="Certified accuracy",
            labels={"trained on": "{rab_variant}", "test images": "clean"},
        ),
        clean_caption="results/pictures/rab/{rab_variant}/clean.rst",
        triggered=report(
            "results/pictures/rab/{rab_variant}/triggered.svg",
            caption="../report/noised_triggered.rst",
            category="4 RAB",
            subcategory="Certified accuracy",
            labels={"trained on": "{rab_variant}", "test images": "triggered"},
        ),
        triggered_caption="results/pictures/rab/{rab_variant}/triggered.rst",
    log:
        "results/logs/plot_noised/{rab_variant}.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_noised.py"),
        confidence=config["confidence"],
    script:
        "../scripts/plot_noised.py"


rule plot_smoothing:
    input:
        cert=of_run("smoothing_cert"),
        claims=of_run("smoothing_claims"),
    output:
        average_radii=report(
            "results/pictures/{beside}smoothing/average_radii.svg",
            caption="../report/average_radii.rst",
            category="5 Randomized smoothing",
            subcategory="Overview",
            labels=labelled("average certified radius"),
        ),
        average_radii_caption="results/pictures/{beside}smoothing/average_radii.rst",
        transfer=report(
            "results/pictures/{beside}smoothing/transfer.svg",
            caption="../report/transfer.rst",
            category="5 Randomized smoothing",
            subcategory="Overview",
            labels=labelled("every poison against every victim"),
        ),
        transfer_caption="results/pictures/{beside}smoothing/transfer.rst",
    log:
        "results/logs/{beside}plot_smoothing.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_smoothing.py"),
        confidence=config["confidence"],
    script:
        "../scripts/plot_smoothing.py"


rule plot_victims:
    input:
        cert="results/smoothing_cert.csv",
    output:
        picture=report(
            "results/pictures/smoothing/{procedure}-s{noise}{other}.svg",
            caption="../report/picture.rst",
            category="5 Randomized smoothing",
            subcategory="Certified accuracy",
            labels=victim_in_words,
        ),
        caption="results/pictures/smoothing/{procedure}-s{noise}{other}.rst",
    log:
        "results/logs/plot_victims/{procedure}-s{noise}{other}.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_victims.py"),
        model=lambda wildcards: victim_model(wildcards),
        confidence=config["confidence"],
    script:
        "../scripts/plot_victims.py"


rule plot_poison:
    input:
        data="results/{dataset}/data/clean.h5",
        poison="results/{dataset}/smoothing/poison/{training_set}.h5",
    output:
        picture=report(
            "results/{dataset}/smoothing/poison/{training_set}.svg",
            caption="../report/picture.rst",
            category="5 Randomized smoothing",
            subcategory="Poisoned images",
            labels={"result": "{training_set}"},
        ),
        caption="results/{dataset}/smoothing/poison/{training_set}.rst",
    log:
        "results/logs/{dataset}/smoothing/plot_poison/{training_set}.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_poison.py"),
    script:
        "../scripts/plot_poison.py"


# The pictures of one network of BadNet repair; files of test and triggered images are for these and no repair.
rule plot_badnet:
    input:
        curve="results/{net}/pruning.csv",
        strip="results/{net}/goodnet/strip.h5",
        judged=lambda wildcards: expand(
            "results/{net}/judged/{file}.h5", net=wildcards.net, file=NETS[wildcards.net].files
        ),
        files=lambda wildcards: list(NETS[wildcards.net].files.values()),
    output:
        pruning=report(
            "results/{net}/pictures/pruning.svg",
            caption="../report/pruning.rst",
            category="6 BadNet repair",
            subcategory=lambda wildcards: NETS[wildcards.net].name,
            labels={"result": "pruning"},
        ),
        pruning_caption="results/{net}/pictures/pruning.rst",
        statistic=report(
            "results/{net}/pictures/statistic.svg",
            caption="../report/statistic.rst",
            category="6 BadNet repair",
            subcategory=lambda wildcards: NETS[wildcards.net].name,
            labels={"result": "STRIP's statistic"},
        ),
        statistic_caption="results/{net}/pictures/statistic.rst",
        answers=report(
            "results/{net}/pictures/answers.svg",
            caption="../report/answers.rst",
            category="6 BadNet repair",
            subcategory=lambda wildcards: NETS[wildcards.net].name,
            labels={"result": "what the repaired network says"},
        ),
        answers_caption="results/{net}/pictures/answers.rst",
    log:
        "results/logs/{net}/plot_badnet.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_badnet.py"),
        tests=lambda wildcards: list(NETS[wildcards.net].tests),
        paired=lambda wildcards: NETS[wildcards.net].planted is not None,
        files=lambda wildcards: list(NETS[wildcards.net].files),
        pruning=config["badnet"]["pruning"],
        tau=config["badnet"]["tau"],
        rule=config["badnet"]["rule"],
        confidence=config["confidence"],
    script:
        "../scripts/plot_badnet.py"


rule plot_defences:
    input:
        table=of_run("badnet_repair"),
    output:
        picture=report(
            "results/pictures/{beside}badnet/defences.svg",
            caption="../report/picture.rst",
            category="6 BadNet repair",
            subcategory="Overview",
            labels=labelled("every defence of every network"),
        ),
        caption="results/pictures/{beside}badnet/defences.rst",
    log:
        "results/logs/{beside}plot_defences.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_defences.py"),
        confidence=config["confidence"],
    script:
        "../scripts/plot_defences.py"


rule plot_robustness:
    input:
        table=of_run("dgn_robustness"),
    output:
        matrix=report(
            "results/pictures/{beside}dgn/matrix.svg",
            caption="../report/matrix.rst",
            category="7 Adversarial data",
            subcategory="Overview",
            labels=labelled("every network under every attack"),
        ),
        matrix_caption="results/pictures/{beside}dgn/matrix.rst",
        curves=report(
            "results/pictures/{beside}dgn/curves.svg",
            caption="../report/curves.rst",
            category="7 Adversarial data",
            subcategory="Overview",
            labels=labelled("white-box PGD against ε"),
        ),
        curves_caption="results/pictures/{beside}dgn/curves.rst",
    log:
        "results/logs/{beside}plot_robustness.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_robustness.py"),
        confidence=config["confidence"],
    script:
        "../scripts/plot_robustness.py"


rule plot_adversarial:
    input:
        data="results/{dataset}/data/clean.h5",
        target="results/{dataset}/dgn/s{repeat}/target.safetensors",
        examples="results/{dataset}/dgn/s{repeat}/{system}/test.h5",
    output:
        picture=report(
            "results/{dataset}/dgn/s{repeat}/{system}/examples.svg",
            caption="../report/picture.rst",
            category="7 Adversarial data",
            subcategory="Examples",
            labels={"result": "{system}, repetition {repeat}"},
        ),
        caption="results/{dataset}/dgn/s{repeat}/{system}/examples.rst",
    log:
        "results/logs/{dataset}/dgn/s{repeat}/{system}/plot_adversarial.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_adversarial.py", OPTIONS.dgn.target.model),
        model=config["dgn"]["target"]["model"],
        confidence=config["confidence"],
    script:
        "../scripts/plot_adversarial.py"


rule plot_generators:
    input:
        data="results/{dataset}/data/clean.h5",
        history="results/{dataset}/dgn/s{repeat}/{loss}/history.csv",
    output:
        picture=report(
            "results/{dataset}/dgn/s{repeat}/{loss}/history.svg",
            caption="../report/picture.rst",
            category="7 Adversarial data",
            subcategory="Training of generators",
            labels={"result": "{loss}, repetition {repeat}"},
        ),
        caption="results/{dataset}/dgn/s{repeat}/{loss}/history.rst",
    log:
        "results/logs/{dataset}/dgn/s{repeat}/{loss}/plot_generators.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_generators.py"),
    script:
        "../scripts/plot_generators.py"


rule plot_relevance:
    input:
        data="results/{dataset}/data/clean.h5",
        relevance="results/{dataset}/dgn/s{repeat}/relevance.h5",
    output:
        picture=report(
            "results/{dataset}/dgn/s{repeat}/relevance.svg",
            caption="../report/picture.rst",
            category="7 Adversarial data",
            subcategory="Target",
            labels={"result": "relevant pixels, repetition {repeat}"},
        ),
        caption="results/{dataset}/dgn/s{repeat}/relevance.rst",
    log:
        "results/logs/{dataset}/dgn/s{repeat}/plot_relevance.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_relevance.py"),
        k=lambda wildcards: dgn_system("lrp").k,
    script:
        "../scripts/plot_relevance.py"


rule plot_suspicious:
    input:
        data="results/{dataset}/data/clean.h5",
        units="results/{dataset}/dgn/s{repeat}/suspicious.csv",
    output:
        picture=report(
            "results/{dataset}/dgn/s{repeat}/suspicious.svg",
            caption="../report/picture.rst",
            category="7 Adversarial data",
            subcategory="Target",
            labels={"result": "suspicious units, repetition {repeat}"},
        ),
        caption="results/{dataset}/dgn/s{repeat}/suspicious.rst",
    log:
        "results/logs/{dataset}/dgn/s{repeat}/plot_suspicious.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_suspicious.py"),
    script:
        "../scripts/plot_suspicious.py"


rule show_findings:
    input:
        findings=of_run("findings"),
        tables=lambda wildcards: expand(
            "{folder}/{table}.csv", folder=run_folder(wildcards), table=tables_of(run_folder(wildcards))
        ),
    output:
        page=report(
            "results/pictures/{beside}findings.html",
            caption="../report/findings.rst",
            category="1 Findings",
            labels=labelled("published numbers and claims beside ours"),
        ),
        text="results/run/{beside}findings.rst",
    log:
        "results/logs/{beside}show_findings.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("show_findings.py"),
        parts=lambda wildcards: parts_of(run_folder(wildcards)),
    script:
        "../scripts/show_findings.py"


# What the run was. The jobs are those that Snakemake's records name behind the tables, so that this asks for no job and
# does not depend on what else has run; a job without a measurement is counted and said to be unmeasured.
rule describe_run:
    input:
        tables=expand("results/{table}.csv", table=shown_tables()) + greedy_table(),
        data=expand("results/{dataset}/data/clean.h5", dataset=used_data()),
    output:
        configuration="results/run/configuration.csv",
        origins="results/run/origins.csv",
        times="results/run/times.csv",
        text="results/run/run.rst",
    log:
        "results/logs/describe_run.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("describe_run.py"),
        config=OPTIONS.model_dump(mode="json"),
        reported=THIS_RUN,
    script:
        "../scripts/describe_run.py"


rule plot_times:
    input:
        times="results/run/times.csv",
    output:
        picture=report(
            "results/pictures/run/times.svg",
            caption="../report/picture.rst",
            category=THIS_RUN,
            labels={"result": "run times and memory, picture"},
        ),
        caption="results/pictures/run/times.rst",
    log:
        "results/logs/plot_times.log",
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("plot_times.py"),
    script:
        "../scripts/plot_times.py"


rule show_table:
    input:
        table=lambda wildcards: f"{run_folder(wildcards)}/{wildcards.table}.csv",
    output:
        report(
            "results/pictures/{beside}{table}.html",
            caption="../report/table.rst",
            category=lambda wildcards: TABLES.get(wildcards.table, THIS_RUN),
            subcategory=lambda wildcards: "Tables" if wildcards.table in TABLES else None,
            labels=table_in_words,
        ),
    log:
        "results/logs/{beside}show_table_{table}.log",
    wildcard_constraints:
        table=any_of([*TABLES, *expand("run/{about}", about=ABOUT)]),
    conda:
        "../../envs/mithridate.yaml"
    params:
        code=code("show_table.py"),
    script:
        "../scripts/show_table.py"


# Everything of one part: its table, pictures and samples.
rule badnet:
    input:
        "results/badnet_repair.csv",
        badnet_pictures(),


rule dgn:
    input:
        "results/dgn_robustness.csv",
        dgn_pictures(),


rule all_pictures:
    input:
        "results/pictures/certified_accuracy.svg",
        "results/pictures/findings.html",
        "results/pictures/run/times.svg",
        expand("results/pictures/{table}.html", table=shown_tables()),
        expand("results/pictures/run/{about}.html", about=ABOUT),
        expand(
            "results/{dataset}/dpa/clean/{ensemble}/pictures/{picture}.svg",
            dataset=OPTIONS.dataset,
            ensemble=[ensemble.name for ensemble in RUNS.ensembles],
            picture=["vote_margins", "partition_sizes", "base_accuracies"],
        ),
        expand("results/{dataset}/data/triggered/{trigger}.svg", dataset=OPTIONS.dataset, trigger=RUNS.triggers),
        expand("results/pictures/backdoor/{attack}/success_rate.svg", attack=ATTACKS),
        greedy_picture(),
        rab_pictures(),
        smoothing_pictures(),
        badnet_pictures(),
        dgn_pictures(),
        pages_beside(),
