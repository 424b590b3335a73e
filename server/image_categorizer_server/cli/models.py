"""The commands `image-categorizer models`, which are in several files."""

from image_categorizer_server.cli import calibrate, evaluate, model, model_import, promotion

app = model.app
for command in (
    model_import.add,
    model_import.pull,
    model_import.quantize,
    evaluate.compare,
    calibrate.calibrate,
    promotion.policy,
    promotion.check,
):
    app.command()(command)
