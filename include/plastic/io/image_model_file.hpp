#pragma once

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>

#include "plastic/images/image_classifier.hpp"
#include "plastic/io/model_file.hpp"
#include "plastic/nn/encoders.hpp"

namespace plastic {

/// Adds an encoder to a file: its name, the shape of its images, the parameters as
/// encoder.BLOCK.conv.weight [filters, channels * kernel * kernel], encoder.BLOCK.norm.weight and
/// .bias [filters], and the running statistics as encoder.BLOCK.norm.running_mean and .running_var.
template <class Scalar>
void add_encoder(TensorFile& file, const Encoder<Scalar>& encoder) {
  using detail::number_text;
  file.metadata["encoder"] = encoder.name();
  file.metadata["image_channels"] = number_text(encoder.input().channels);
  file.metadata["image_height"] = number_text(encoder.input().height);
  file.metadata["image_width"] = number_text(encoder.input().width);
  file.metadata["filters"] = number_text(encoder.filters());
  add_tensors(file, "encoder", encoder.parameters(), encoder.parameters().values());
  for (std::size_t k = 0; k < encoder.statistics().size(); ++k) {
    const std::string name = "encoder." + encoder.statistics_names()[k];
    file.set_vector(name + ".running_mean", encoder.statistics()[k].mean);
    file.set_vector(name + ".running_var", encoder.statistics()[k].variance);
  }
}

/// The encoder that a file describes. Throws std::invalid_argument naming a setting or tensor that
/// is missing, unknown, or of another type or shape.
template <class Scalar>
std::unique_ptr<Encoder<Scalar>> encoder_from_tensors(const TensorFile& file) {
  const auto side = [&](const std::string& name) {
    const auto value = detail::number_setting<Index>(file.metadata, name);
    detail::check_between("encoder_from_tensors", name, value, 1, 4096);
    return value;
  };
  const ImageShape shape{side("image_channels"), side("image_height"), side("image_width")};
  const Index filters = side("filters");
  // Every encoder has convolutions from the image's channels to its filters and between filters:
  // checked before allocating memory for the sizes that the settings claim.
  Index values = 0;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with("encoder.")) values += tensor.size();
  }
  if (filters * std::max(filters, shape.channels) > values) {
    detail::reject("encoder_from_tensors", "\"filters\" of the file",
                   "at most as many as its encoder.* tensors have values for", filters);
  }
  auto encoder = make_encoder<Scalar>(setting(file.metadata, "encoder"), shape, 0, filters);
  encoder->parameters().values() = read_tensors(file, "encoder", encoder->parameters());
  for (std::size_t k = 0; k < encoder->statistics().size(); ++k) {
    RunningStatistics<Scalar>& running = encoder->statistics()[k];
    const std::string name = "encoder." + encoder->statistics_names()[k];
    running.mean = file.vector<Scalar>(name + ".running_mean", running.mean.size());
    running.variance = file.vector<Scalar>(name + ".running_var", running.variance.size());
  }
  const std::size_t expected =
      encoder->parameters().blocks().size() + 2 * encoder->statistics().size();
  const auto found = static_cast<std::size_t>(
      std::count_if(file.tensors.begin(), file.tensors.end(),
                    [](const auto& entry) { return entry.first.starts_with("encoder."); }));
  if (found != expected) {
    detail::reject("encoder_from_tensors", "the number of encoder.* tensors",
                   std::to_string(expected), found);
  }
  return encoder;
}

/// @{
/// Writes and reads an encoder alone, as a starting point for other networks. Throw as add_encoder,
/// encoder_from_tensors and the functions on safetensors files do.
template <class Scalar>
void write_encoder(const std::filesystem::path& path, const Encoder<Scalar>& encoder) {
  TensorFile file;
  add_encoder(file, encoder);
  write_safetensors(path, file);
}
template <class Scalar>
std::unique_ptr<Encoder<Scalar>> read_encoder(const std::filesystem::path& path) {
  return encoder_from_tensors<Scalar>(read_safetensors(path));
}
/// @}

/// A whole classifier: the cell as in `to_tensors`, the encoder, and classifier.head.weight
/// [embedding, features] and .bias.
template <class Cell>
TensorFile to_tensors(const ImageClassifier<Cell>& model) {
  TensorFile file = to_tensors(model.cell());
  add_encoder(file, model.encoder());
  add_tensors(file, "classifier", model.head(), model.head().values());
  return file;
}

/// Writes a classifier to a file, whole or not at all: `classifier_from_tensors` of what
/// `read_safetensors` reads has the same bits. Throws as write_safetensors does.
template <class Cell>
void save(const std::filesystem::path& path, const ImageClassifier<Cell>& model) {
  write_safetensors(path, to_tensors(model));
}

/// The classifier that a file describes. Throws std::invalid_argument as `from_tensors` and
/// `encoder_from_tensors` do.
template <class Cell>
ImageClassifier<Cell> classifier_from_tensors(const TensorFile& file) {
  const Cell cell = from_tensors<Cell>(file);
  ImageClassifier<Cell> model(encoder_from_tensors<typename Cell::ScalarType>(file),
                              cell.options());
  model.head().values() = read_tensors(file, "classifier", model.head());
  model.cell().parameters().values() = cell.parameters().values();
  return model;
}

}  // namespace plastic
