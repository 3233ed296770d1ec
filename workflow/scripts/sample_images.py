"""Write a few images of a file as PNG, with a list of their positions and labels."""

from mithridate.artefacts import write_csv
from mithridate.data.faces import open_faces
from mithridate.data.samples import sample_rows, write_png
from mithridate.job import logged

with logged(snakemake.log[0]):
    paths = [path for path in snakemake.output if path.endswith(".png")]
    with open_faces(snakemake.input.file) as faces:
        table = sample_rows(faces, len(paths), snakemake.params.seed)
        images = faces.images(table["index"].to_numpy())
    for path, image in zip(paths, images, strict=True):
        write_png(path, image)
    write_csv(snakemake.output.listing, table)
