#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "plastic/cells/options.hpp"
#include "plastic/io/safetensors.hpp"
#include "support/errors.hpp"
#include "support/image_files.hpp"
#include "support/process.hpp"

namespace {

using namespace plastic::testing;
using plastic::DType;
using plastic::Index;
using plastic::read_safetensors;
using plastic::Tensor;
using plastic::TensorFile;
using plastic::write_safetensors;

fs::path case_file(const std::string& name) {
  return fs::path(PLASTIC_TEST_DATA) / (name + ".safetensors");
}

std::vector<double> values_of(const Tensor& tensor) {
  std::vector<double> values;
  if (tensor.dtype() == DType::F64) {
    const auto all = tensor.values<double>();
    values.assign(all.begin(), all.end());
  } else {
    for (const float value : tensor.values<float>()) values.push_back(value);
  }
  return values;
}

Tensor to_float(const Tensor& tensor) {
  Tensor copy(DType::F32, tensor.shape());
  const auto from = tensor.values<double>();
  std::transform(from.begin(), from.end(), copy.values<float>().begin(),
                 [](double value) { return static_cast<float>(value); });
  return copy;
}

// Largest difference as a part of 1 + the largest magnitude expected; a NaN differs infinitely.
double difference(const Tensor& got, const Tensor& expected) {
  const std::vector<double> a = values_of(got), b = values_of(expected);
  double largest = 0, most = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double here = std::abs(a[i] - b[i]);
    if (!std::isfinite(here)) return std::numeric_limits<double>::infinity();
    most = std::max(most, here);
    largest = std::max(largest, std::abs(b[i]));
  }
  return most / (1 + largest);
}

// Every tensor of `expected` but input and target is in `got`, in its shape.
void check_tensors(const TensorFile& got, const TensorFile& expected, DType dtype,
                   double tolerance) {
  for (const auto& [name, tensor] : expected.tensors) {
    if (name == "input" || name == "target") continue;
    INFO(name);
    REQUIRE(got.tensors.contains(name));
    const Tensor& result = got.tensor(name);
    CHECK(result.dtype() == dtype);
    REQUIRE(result.shape() == tensor.shape());
    CHECK(difference(result, tensor) <= tolerance);
  }
}

// Training that takes moments. `extra` comes last and so may not repeat what is here.
Arguments short_run(const fs::path& out, const Arguments& extra = {}) {
  Arguments all{"--hidden", "4", "--threads", "1", "--out", out.string()};
  all.insert(all.end(), extra.begin(), extra.end());
  return all;
}

Arguments endless_run(const fs::path& out, const std::string& validate_every) {
  return short_run(out, {"--batches", "100000000", "--validate-every", validate_every});
}

// What replay makes of a file that cue_reward wrote.
TensorFile replayed(const fs::path& model) {
  const Folder folder;
  run_well("replay", {model.string(), folder / "out"});
  return read_safetensors(folder / "out");
}

void check_model(const fs::path& model) {
  const TensorFile out = replayed(model);
  CHECK(out.tensor("output").shape() == std::vector<Index>{8, 20, 1});
  CHECK(std::isfinite(values_of(out.tensor("loss")).at(0)));
}

}  // namespace

TEST_CASE("Replay computes every parity case in double and in float", "[programs]") {
  const Folder folder;
  int cases = 0;
  for (const auto& entry : fs::directory_iterator(PLASTIC_TEST_DATA)) {
    if (entry.path().extension() != ".safetensors") continue;
    INFO(entry.path().filename());
    ++cases;
    const TensorFile in = read_safetensors(entry.path());
    const Ended ended = run_well("replay", {entry.path().string(), folder / "double"});
    CHECK(ended.out.empty());
    const TensorFile out = read_safetensors(folder / "double");
    check_tensors(out, in, DType::F64, 1e-10);
    CHECK(out.tensors.size() == in.tensors.size());
    for (const auto& [name, text] : in.metadata) {
      INFO(name);
      REQUIRE(out.metadata.contains(name));
      const std::string& got = out.metadata.at(name);
      CHECK((got == text || std::stod(got) == std::stod(text)));
    }

    TensorFile copy{.metadata = in.metadata, .tensors = {}};
    for (const auto& [name, tensor] : in.tensors) copy.tensors[name] = to_float(tensor);
    write_safetensors(folder / "copy", copy);
    run_well("replay", {folder / "copy", folder / "float"});
    check_tensors(read_safetensors(folder / "float"), in, DType::F32, 1e-4);
  }
  CHECK(cases == 17);
  CHECK(names_in(folder.path()) == std::vector<std::string>{"copy", "double", "float"});
}

TEST_CASE("Replay computes a large batch as it does a small one", "[programs]") {
  const Folder folder;
  constexpr Index times = 7;
  TensorFile in = read_safetensors(case_file("rnn_gradient"));
  for (auto& [name, tensor] : in.tensors) {
    if (name.starts_with("param.") || name.starts_with("grad.") || name == "loss") continue;
    const std::vector<double> once = values_of(tensor);
    std::vector<double> all;
    for (Index i = 0; i < times; ++i) all.insert(all.end(), once.begin(), once.end());
    std::vector<Index> shape = tensor.shape();
    shape[0] *= times;
    tensor = Tensor::from(shape, all.data());
  }
  in.metadata["batch"] = std::to_string(in.tensor("input").shape()[0]);
  REQUIRE(in.metadata["batch"] == "21");
  write_safetensors(folder / "in", in);
  run_well("replay", {folder / "in", folder / "out"});
  check_tensors(read_safetensors(folder / "out"), in, DType::F64, 1e-10);
}

TEST_CASE("Replay without a target gives outputs but no loss and no gradients", "[programs]") {
  const Folder folder;
  for (const std::string name : {"rnn_gradient", "lstm_hebbian_layer_norm_uniform", "rnn_none"}) {
    INFO(name);
    TensorFile in = read_safetensors(case_file(name));
    in.tensors.erase("target");
    for (auto at = in.tensors.begin(); at != in.tensors.end();) {
      at = at->first.starts_with("grad.") || at->first == "loss" ? in.tensors.erase(at) : ++at;
    }
    write_safetensors(folder / "in", in);
    run_well("replay", {folder / "in", folder / "out"});
    const TensorFile out = read_safetensors(folder / "out");
    check_tensors(out, in, DType::F64, 1e-10);
    CHECK(out.tensors.size() == in.tensors.size());
  }
}

TEST_CASE("Replay may write over its input", "[programs]") {
  const Folder folder;
  const TensorFile in = read_safetensors(case_file("rnn_hebbian"));
  write_safetensors(folder / "model", in);
  for (int times = 0; times < 2; ++times) {  // nothing that it needs is lost
    run_well("replay", {folder / "model", folder / "model"});
    check_tensors(read_safetensors(folder / "model"), in, DType::F64, 1e-10);
  }
}

TEST_CASE("Replay refuses a file that is no model file and leaves its output alone", "[programs]") {
  const Folder folder;
  const std::string whole = content(case_file("rnn_gradient"));
  const std::string in = folder / "in", out = folder / "out";
  write_plainly(out, "an older result");
  const auto refuses = [&](const std::vector<std::string>& parts) {
    check_refusal("replay", {in, out}, parts);
    CHECK(content(out) == "an older result");
  };
  refuses({in, "no such file"});
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{8}, std::size_t{100},
                                 whole.size() / 2, whole.size() - 1}) {
    INFO(size << " of " << whole.size() << " bytes");
    write_plainly(in, std::string_view(whole).substr(0, size));
    refuses({in, "must be"});
  }
  write_plainly(in, whole + "x");
  refuses({in, "must be"});
  write_plainly(in, "Dear reader,\nthis is a letter and not a network.\n");
  refuses({in, "the header's length"});
  // Lengths and sizes that nothing backs.
  const std::string tensor = R"({"input":{"dtype":"F64","shape":[4000000000,1000,5],)";
  const std::string header = tensor + R"("data_offsets":[0,160000000000000]}})";
  for (const auto length : {std::uint64_t{header.size()}, ~std::uint64_t{0}, std::uint64_t{1} << 40,
                            std::uint64_t{1} << 20}) {
    INFO("a header of " << length << " bytes");
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, sizeof(length));
    write_plainly(in, bytes + header);
    refuses({in, "must be"});
  }
  CHECK(names_in(folder.path()) == std::vector<std::string>{"in", "out"});

  fs::remove(in);
  fs::create_directory(in);
  refuses({in, "directory"});
}

TEST_CASE("Replay refuses a model that does not fit itself and says what is wrong", "[programs]") {
  const Folder folder;
  const std::string in = folder / "in", out = folder / "out";
  write_plainly(out, "an older result");
  const auto refuses = [&](const std::string& name, const auto& change,
                           const std::vector<std::string>& parts) {
    TensorFile file = read_safetensors(case_file(name));
    change(file);
    write_safetensors(in, file);
    std::vector<std::string> all{in};
    all.insert(all.end(), parts.begin(), parts.end());
    check_refusal("replay", {in, out}, all);
    CHECK(content(out) == "an older result");
    CHECK(names_in(folder.path()) == std::vector<std::string>{"in", "out"});
  };

  SECTION("numbers") {
    const auto refuses_setting = [&](const std::string& setting, const std::string& text) {
      refuses("rnn_gradient", [&](TensorFile& f) { f.metadata[setting] = text; }, {setting});
    };
    for (const std::string text : {"nan", "inf", "-inf", "-0.1", "1e999", "1e300", "garbage", "",
                                   " 0.1", "0.1 ", "0,1", "0.1x"}) {
      refuses_setting("eta0", text);
    }
    for (const std::string setting : {"decay0", "max_norm", "weight_clip", "inner_scale"}) {
      refuses_setting(setting, "nan");
      refuses_setting(setting, "inf");
      refuses_setting(setting, "-1");
    }
    refuses_setting("max_norm", "0");
    for (const std::string text : {"0", "-7", "7.5", "7e0", "nan", "", "9223372036854775808"}) {
      refuses_setting("hidden", text);
    }
    refuses_setting("inputs", "0");
    refuses_setting("outputs", "0");
    refuses_setting("extra", "-1");
    refuses_setting("seed", "-1");
    refuses_setting("modulation", "yes");
    refuses_setting("layer_norm", "1");
    refuses_setting("alpha_mode", "some");
    refuses_setting("batch", "4");
    refuses_setting("steps", "1000000000000");
    refuses("rnn_gradient", [](TensorFile& f) { f.metadata.erase("hidden"); },
            {"hidden", "missing"});
  }

  SECTION("sizes far beyond the file") {
    for (const std::string cell : {"rnn_gradient", "lstm_hebbian"}) {
      for (const std::string size : {"8", "1000000"}) {
        refuses(cell, [&](TensorFile& f) { f.metadata["hidden"] = size; },
                {"param.in_fc.weight", "[5, " + size + "]", "[5, 7]"});
        refuses(cell, [&](TensorFile& f) { f.metadata["inputs"] = size; },
                {"param.in_fc.weight", "[" + size + ", 7]", "[5, 7]"});
        refuses(cell, [&](TensorFile& f) { f.metadata["extra"] = size; },
                {"param.out_fc.weight", "[7, 6]"});
      }
      for (const std::string size : {"1000000000000", "4611686018427387904"}) {
        for (const std::string name : {"hidden", "inputs", "extra"}) {
          refuses(cell, [&](TensorFile& f) { f.metadata[name] = size; }, {name, size});
        }
      }
    }
  }

  SECTION("kinds") {
    refuses("rnn_gradient", [](TensorFile& f) { f.metadata["rule"] = "oja"; },
            {"rule", "gradient, hebbian or none", "oja"});
    refuses("rnn_gradient", [](TensorFile& f) { f.metadata["cell"] = "gru"; },
            {"cell", "rnn or lstm", "gru"});
    refuses("rnn_gradient", [](TensorFile& f) { f.metadata.clear(); },
            {"missing from the metadata"});
    refuses("rnn_gradient", [](TensorFile& f) { f.metadata["rule"] = "none"; }, {"_alpha"});
    refuses("rnn_gradient", [](TensorFile& f) { f.metadata["cell"] = "lstm"; },
            {"param.h_fc.weight", "[7, 28]", "[7, 7]"});
    refuses("rnn_none", [](TensorFile& f) { f.metadata["rule"] = "hebbian"; },
            {"param.in_fc.weight_alpha"});
    refuses("rnn_gradient", [](TensorFile& f) { f.metadata["layer_norm"] = "true"; },
            {"param.layer_norm.weight"});
  }

  SECTION("tensors") {
    const auto replace = [](const std::string& name, std::vector<Index> shape,
                            DType dtype = DType::F64) {
      return [=](TensorFile& f) { f.tensors[name] = Tensor(dtype, shape); };
    };
    for (const std::string name : {"weights", "inputs", "Param.x", "param.in_fc.gain", "param."}) {
      refuses("rnn_gradient", replace(name, {1}), {name});
    }
    refuses("rnn_gradient", replace("param.in_fc.weight", {7, 5}),
            {"param.in_fc.weight", "[5, 7]", "[7, 5]"});
    refuses("rnn_gradient", replace("param.h_fc.bias", {1, 7}), {"param.h_fc.bias", "[7]"});
    refuses("rnn_gradient", replace("param.out_scale", {0}), {"param.out_scale", "[6]"});
    refuses("rnn_gradient", replace("param.h_fc.bias", {7}, DType::F32),
            {"param.h_fc.bias", "F64"});
    refuses("rnn_gradient", replace("target", {3, 6, 2}, DType::F32), {"target", "F64"});
    refuses("rnn_gradient", replace("target", {3, 6, 3}), {"target", "[3, 6, 2]", "[3, 6, 3]"});
    refuses("rnn_gradient", replace("target", {2, 6, 2}), {"target", "[3, 6, 2]", "[2, 6, 2]"});
    refuses("rnn_gradient", replace("input", {3, 6, 4}), {"input", "[3, 6, 5]", "[3, 6, 4]"});
    refuses("rnn_gradient", replace("input", {18, 5}), {"input", "[18, 5]"});
    refuses("rnn_gradient", replace("input", {0, 6, 5}), {"input", "[0, 6, 5]"});
    refuses("rnn_gradient", replace("input", {3, 0, 5}), {"input", "[3, 0, 5]"});
    for (const std::string name : {"param.in_fc.weight", "param.h_fc.bias_alpha", "param.out_scale",
                                   "param.i_fc.bias", "input"}) {
      refuses("rnn_gradient", [&](TensorFile& f) { f.tensors.erase(name); }, {name});
    }
  }
}

TEST_CASE("Replay refuses an output that it cannot write", "[programs]") {
  const Folder folder;
  const std::string in = case_file("rnn_gradient");
  check_refusal("replay", {in, folder / "missing/out"}, {folder / "missing/out", "No such file"});
  fs::create_directory(folder / "folder");
  check_refusal("replay", {in, folder / "folder"}, {folder / "folder", "directory"});
  if (fs::exists("/dev/full")) check_refusal("replay", {in, "/dev/full"}, {"/dev/full"});
  CHECK(names_in(folder.path()) == std::vector<std::string>{"folder"});
  CHECK(fs::is_empty(folder / "folder"));

  check_refusal("replay", {}, {"IN"});
  check_refusal("replay", {in}, {"OUT"});
  check_refusal("replay", {in, folder / "out", "third"}, {"third"});
  check_refusal("replay", {"--fast", in, folder / "out"}, {"--fast"});
  CHECK_FALSE(fs::exists(folder / "out"));
}

TEST_CASE("A full disk leaves an older result of replay as it was", "[programs]") {
  const Folder folder;
  const SmallDisk disk(folder.path());
  if (!disk.mounted()) {
    WARN("not tested: this user may not mount a small disk");
    return;
  }
  write_plainly(folder / "out", "an older result");
  write_plainly(folder / "fill", std::string(48'000, 'x'));
  check_refusal("replay", {case_file("lstm_gradient"), folder / "out"},
                {folder / "out", "No space left on device"});
  CHECK(content(folder / "out") == "an older result");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"fill", "out"});
  fs::remove(folder / "fill");
  run_well("replay", {case_file("lstm_gradient"), folder / "out"});
}

TEST_CASE("The help of the programs names every option and argument", "[programs]") {
  const Ended training = run_well("cue_reward", {"--help"});
  for (const std::string option :
       {"--help", "--rule", "--cell", "--hidden", "--batches", "--seed", "--threads",
        "--inner-scale", "--learning-rate", "--validate-every", "--out", "hebbian", "gradient",
        "none", "rnn", "lstm", "progress.csv", "best.safetensors"}) {
    INFO(option);
    CHECK(mentions(training.out, option));
  }
  const Ended replay = run_well("replay", {"--help"});
  for (const std::string word :
       {"--help", "IN", "OUT", "safetensors", "input", "target", "grad."}) {
    INFO(word);
    CHECK(mentions(replay.out, word));
  }
}

TEST_CASE("Every program that takes arguments or runs long says what it does", "[programs]") {
  const auto check_help = [](const std::string& name, const Arguments& arguments) {
    INFO(name);
    const Ended help = run_well(name, arguments);
    CHECK(mentions(help.out, "Usage: "));
    for (const std::string jargon : {"INT", "FLOAT", "TEXT", "e+", "[1 - "}) {
      INFO(jargon);
      CHECK_FALSE(mentions(help.out, jargon));
    }
  };
  for (const char* name : {"key_value", "ragged", "train", "adaptive_control", "own_loop",
                           "own_objective", "own_rule", "own_cell", "own_task", "own_callback"}) {
    check_help(name, {"--help"});
    CHECK(mentions(run_well(name, {"--help"}).out, "[BATCHES]"));
    for (const std::string value :
         {"0", "-3", "x", "7x", "1.5", "1e3", "", "--fast", "99999999999999999999"}) {
      check_refusal(name, {value}, {name, "BATCHES", "whole number from 1", "--help"});
    }
    check_refusal(name, {"3", "4"}, {name, "\"4\""});
  }
  for (const char* name : {"by_hand", "fit_curve", "own_operation"}) {
    check_help(name, {"--help"});
    check_refusal(name, {"3"}, {name, "\"3\"", "--help"});
  }
  for (const char* name :
       {"cue_reward", "replay", "state_dict", "one_shot_images", "experiments"}) {
    check_help(name, {"--help"});
    const std::string program = name;
    // Arguments that are required, so that nothing else is wrong.
    Arguments arguments;
    if (program == "replay" || program == "state_dict") arguments = {"in", "out"};
    if (program == "experiments") arguments = {"list"};
    arguments.emplace_back("--fast");
    check_refusal(name, arguments, {name, "--fast", "--help"});
  }
  check_help("experiments", {"run", "--help"});
  check_help("experiments", {"report", "--help"});
  const Ended refused = run("cue_reward", {"--batches", "1.5"});
  CHECK(refused.err ==
        "cue_reward: --batches: must be a whole number from 1 to 1000000000, got 1.5; --help "
        "explains the options\n");
}

TEST_CASE("Cue-reward refuses options that make no sense", "[programs]") {
  const Folder folder;
  const std::string out = folder / "out";
  const auto refuses = [&](const std::string& option, const std::string& value,
                           const std::string& part) {
    // If a value is accepted by mistake, the run must end soon.
    std::map<std::string, std::string> options{
        {"--hidden", "1"}, {"--batches", "1"}, {"--threads", "1"}, {"--out", out}};
    options[option] = value;
    Arguments arguments;
    for (const auto& [name, text] : options) arguments.insert(arguments.end(), {name, text});
    check_refusal("cue_reward", arguments, {part});
  };
  refuses("--rule", "oja", "--rule");
  refuses("--rule", "", "--rule");
  refuses("--cell", "gru", "--cell");
  for (const std::string value : {"0", "-3"}) {
    refuses("--hidden", value, "--hidden");
    refuses("--batches", value, "--batches");
  }
  for (const std::string option : {"--hidden", "--batches", "--threads", "--seed"}) {
    for (const std::string value : {"many", "1.5", "1e3", "7x", "nan"}) {
      refuses(option, value, option);
    }
  }
  for (const std::string value : {"nan", "inf", "-1", "1e99"}) {
    refuses("--learning-rate", value, "learning_rate must be");
  }
  for (const std::string value : {"nan", "inf", "-1"}) {
    refuses("--inner-scale", value, "inner_scale must be");
  }
  refuses("--learning-rate", "fast", "--learning-rate");
  refuses("--threads", "-1", "--threads");
  refuses("--threads", "100000000", "--threads");
  refuses("--seed", "-1", "--seed");
  refuses("--batches", "99999999999999999999", "--batches");
  refuses("--hidden", "99999999999999999999", "--hidden");
  for (const std::string value : {"0", "-5", "nan"}) {
    refuses("--validate-every", value, "--validate-every");
  }
  refuses("--colour", "red", "--colour");
  check_refusal("cue_reward", {"--out"}, {"--out"});
  check_refusal("cue_reward", {"extra", "--out", out}, {"extra"});
  CHECK(names_in(folder.path()).empty());

  write_plainly(folder / "file", "not a folder");
  for (const std::string name : {folder / "file", folder / "file/below", fs::path("/dev/null/x")}) {
    refuses("--out", name, name);
  }
  CHECK(content(folder / "file") == "not a folder");
}

TEST_CASE("Cue-reward ends with an error where its files cannot be written", "[programs]") {
  const Folder folder;
  const auto stops = [&](const fs::path& out, const std::vector<std::string>& parts) {
    const Ended ended = run("cue_reward", short_run(out, {"--batches", "1"}));
    INFO(ended.err);
    CHECK(ended.code > 0);
    for (const std::string& part : parts) CHECK(mentions(ended.err, part));
  };
  for (const std::string name : {"progress.csv", "best.safetensors", "test.csv"}) {
    INFO(name);
    fs::create_directories(folder / ("no_" + name) / name);
    stops(folder / ("no_" + name), {name});
  }
  fs::create_directory(folder / "disk");
  const SmallDisk disk(folder / "disk");
  if (!disk.mounted()) {
    WARN("not tested: this user may not mount a small disk");
    return;
  }
  write_plainly(folder / "disk/fill", std::string(52'000, 'x'));
  stops(folder / "disk", {"best.safetensors", "No space left on device"});
  CHECK(names_in(folder / "disk") == std::vector<std::string>{".lock", "fill"});
}

TEST_CASE("A run that fails at once leaves the files of the run before", "[programs]") {
  const Folder folder;
  run_well("cue_reward", short_run(folder / "out", {"--batches", "4", "--rule", "none"}));
  std::map<std::string, std::string> before;
  for (const std::string& name : names_in(folder / "out"))
    before[name] = content(folder / "out" / name);
  CHECK(before.size() >= 3);
  const Ended ended = run(
      "cue_reward",
      short_run(folder / "out", {"--batches", "50", "--rule", "none", "--learning-rate", "1e30"}));
  CHECK(ended.code > 0);
  for (const auto& [name, bytes] : before) {
    INFO(name);
    CHECK(content(folder / "out" / name) == bytes);
  }
  CHECK(names_in(folder / "out").size() == before.size());
}

TEST_CASE("A folder's name is no command", "[programs]") {
  const Folder folder;
  const std::string name = "it's `touch pwned` \"$(touch pwned)\"\n%s";
  run_well("cue_reward", short_run(folder / name, {"--batches", "2", "--rule", "none"}));
  CHECK(fs::exists(folder / name / "progress.csv"));
  CHECK(fs::exists(folder / name / "learning_curve.svg"));
  CHECK_FALSE(fs::exists("pwned"));
  CHECK(names_in(folder.path()).size() == 1);
}

TEST_CASE("Training that diverges ends with an error", "[programs]") {
  const Folder folder;
  const Ended ended = run(
      "cue_reward",
      short_run(folder / "out", {"--batches", "50", "--rule", "none", "--learning-rate", "1e30"}));
  INFO(ended.err);
  CHECK(ended.code > 0);
  CHECK(ended.signal == 0);
  CHECK(mentions(ended.err, "cue_reward: "));
  CHECK(mentions(ended.err, "batch "));
  CHECK(mentions(ended.err, "loss"));
  CHECK_FALSE(fs::exists(folder / "out/test.csv"));
  CHECK_FALSE(fs::exists(folder / "out/best.safetensors"));
}

TEST_CASE("A short training writes its progress, test loss, best network and plot", "[programs]") {
  const Folder folder;
  const Ended ended = run_well(
      "cue_reward", short_run(folder / "new/out", {"--batches", "5", "--validate-every", "2"}));
  INFO(ended.out);

  const std::vector<Row> rows = rows_of(content(folder / "new/out/progress.csv"));
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].batch == 2);
  CHECK(rows[1].batch == 4);
  CHECK(rows[2].batch == 5);
  for (const Row& row : rows) {
    CHECK(row.train_loss > 0.05);
    CHECK(row.train_loss < 1);
    CHECK(row.validation_loss > 0.05);
    CHECK(row.validation_loss < 1);
  }
  CHECK(rows[0].seconds <= rows[2].seconds);

  std::istringstream test(content(folder / "new/out/test.csv"));
  std::string header, rest;
  double test_loss = 0;
  test >> header >> test_loss;
  CHECK(header == "test_loss");
  const auto best = std::min_element(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return a.validation_loss < b.validation_loss;
  });
  CHECK(test_loss == Approx(best->validation_loss).epsilon(0.1));
  CHECK_FALSE(test >> rest);

  const fs::path model = folder / "new/out/best.safetensors";
  check_model(model);
  const TensorFile file = read_safetensors(model);
  CHECK(file.metadata.at("hidden") == "4");
  CHECK(file.metadata.at("rule") == "hebbian");
  CHECK(file.tensor("input").shape() == std::vector<Index>{8, 20, 16});
  CHECK(file.tensor("target").shape() == std::vector<Index>{8, 20, 1});

  std::vector<std::string> expected{".lock", "best.safetensors", "progress.csv", "test.csv"};
  const std::string curve = content(folder / "new/out/learning_curve.svg");
  if (std::system("command -v gnuplot >/dev/null 2>&1") == 0) {
    expected.insert(expected.begin() + 2, "learning_curve.svg");
    CHECK(mentions(curve, "<svg"));
    CHECK(mentions(curve, "</svg>"));
    CHECK(mentions(curve, "validation"));
  }
  CHECK(names_in(folder / "new/out") == expected);

  // Plain lines: nobody watches a file.
  CHECK_FALSE(mentions(ended.out, "\r"));
  CHECK(mentions(ended.out, "batch 2/5"));
  CHECK(mentions(ended.out, "batch 4/5"));
  CHECK(mentions(ended.out, "batch 5/5"));
  CHECK(mentions(ended.out, "Best after " + std::to_string(best->batch) + " batches"));
  CHECK(mentions(ended.out, model.string()));
  CHECK(ended.out.ends_with("\n"));
}

TEST_CASE("The same seed gives the same network on one thread and on two", "[programs]") {
  const Folder folder;
  const auto model = [&](const std::string& out, const Arguments& kind, const std::string& threads,
                         const std::string& seed) {
    Arguments all{"--hidden", "3", "--batches", "3", "--out", folder / out};
    all.insert(all.end(), {"--threads", threads, "--seed", seed});
    all.insert(all.end(), kind.begin(), kind.end());
    const Ended ended = run("cue_reward", all);
    INFO(ended.err);
    REQUIRE(ended.code == 0);
    return content(folder / out / "best.safetensors");
  };
  for (const Arguments& kind :
       {Arguments{"--rule", "hebbian"}, Arguments{"--rule", "gradient", "--cell", "lstm"}}) {
    INFO(kind.back());
    const std::string one = model("one", kind, "1", "7");
    CHECK_FALSE(one.empty());
    CHECK(model("two", kind, "2", "7") == one);
    const std::vector<Row> a = rows_of(content(folder / "one/progress.csv"));
    const std::vector<Row> b = rows_of(content(folder / "two/progress.csv"));
    REQUIRE(a.size() == 1);
    REQUIRE(b.size() == 1);
    CHECK(a[0].train_loss == b[0].train_loss);
    CHECK(a[0].validation_loss == b[0].validation_loss);
    CHECK(content(folder / "one/test.csv") == content(folder / "two/test.csv"));
  }
  const std::string last = content(folder / "one/best.safetensors");
  CHECK(model("other", {"--rule", "gradient", "--cell", "lstm"}, "1", "8") != last);
}

TEST_CASE("An interrupt ends training in good order", "[programs]") {
  const Folder folder;
  const fs::path out = folder / "out", csv = out / "progress.csv";
  SECTION("between two validations") {
    Process training("cue_reward", endless_run(out, "100000000"));
    training.wait_for([&] { return fs::exists(out); });
    training.send(SIGINT);
    const Ended ended = training.wait();
    INFO(ended.out << ended.err);
    CHECK(ended.code == 0);
    const std::vector<Row> rows = rows_of(content(csv));
    REQUIRE(rows.size() == 1);
    CHECK(mentions(ended.out, "Stopped after " + std::to_string(rows[0].batch) + " batches"));
  }
  SECTION("after some, while others read its files") {
    Process training("cue_reward", endless_run(out, "1"));
    const fs::path model = out / "best.safetensors";
    // Whoever looks finds whole files.
    training.wait_for([&] {
      if (fs::exists(model)) CHECK_NOTHROW(read_safetensors(model));
      return fs::exists(csv) && rows_of(content(csv)).size() >= 3;
    });
    training.send(SIGINT);
    const Ended ended = training.wait();
    INFO(ended.out << ended.err);
    CHECK(ended.code == 0);
    const std::vector<Row> rows = rows_of(content(csv));
    CHECK(rows.size() >= 3);
    CHECK(mentions(ended.out, "Stopped after " + std::to_string(rows.back().batch) + " batches"));
    CHECK(content(out / "test.csv").starts_with("test_loss\n0."));
  }
  check_model(out / "best.safetensors");
}

TEST_CASE("An interrupt that the caller has told a program to ignore is ignored", "[programs]") {
  const Folder folder;
  const auto in_background = [](const std::string& program, Arguments arguments) {
    const std::string path = (fs::path(PLASTIC_PROGRAMS) / program).string();
    arguments.insert(arguments.begin(), {"-c", "trap '' INT; exec \"$0\" \"$@\"", path});
    return std::make_unique<Process>("/bin/sh", arguments);
  };
  const fs::path out = folder / "out";
  const auto cue_reward = in_background("cue_reward", endless_run(out, "1"));
  const auto lines = [&] {
    return fs::exists(out / "progress.csv") ? rows_of(content(out / "progress.csv")).size() : 0;
  };
  cue_reward->wait_for([&] { return lines() >= 1; });
  cue_reward->send(SIGINT);
  const std::size_t before = lines();
  cue_reward->wait_for([&] { return lines() >= before + 3; });
}

TEST_CASE("One process at a time works in a folder", "[programs]") {
  const Folder folder;
  const fs::path out = folder / "out";
  Process first("cue_reward", endless_run(out, "100000000"));
  first.wait_for([&] { return fs::exists(out / ".lock"); });
  // The file is there before its lock is held.
  std::this_thread::sleep_for(200ms);
  check_refusal("cue_reward", endless_run(out, "1"), {out.string(), "another process is using"});
  CHECK(first.running());
}

TEST_CASE("A file system that cannot sync ends no run", "[programs]") {
  const Folder folder;
  const fs::path out = folder / "out";
  const std::string program = (fs::path(PLASTIC_PROGRAMS) / "cue_reward").string();
  run_well("/usr/bin/env", {"LD_PRELOAD=" PLASTIC_NO_FSYNC, "ASAN_OPTIONS=verify_asan_link_order=0",
                            program, "--rule", "none", "--hidden", "8", "--batches", "6",
                            "--validate-every", "2", "--out", out.string()});
  CHECK(rows_of(content(out / "progress.csv")).size() == 3);
  check_model(out / "best.safetensors");
}

TEST_CASE("A kill at any moment leaves whole files or none", "[programs]") {
  const Folder folder;
  const fs::path csv = folder / "progress.csv", model = folder / "best.safetensors";
  std::mt19937 random{std::random_device()()};
  for (int kill = 0; kill < 6; ++kill) {
    const auto moment = std::chrono::microseconds(
        std::uniform_int_distribution<int>(0, kill < 3 ? 20'000 : 200'000)(random));
    INFO(moment.count() << " microseconds");
    Process training("cue_reward", endless_run(folder.path(), "1"));
    // The last ones are killed while files are there to be replaced.
    if (kill >= 4) training.wait_for([&] { return fs::exists(csv); });
    std::this_thread::sleep_for(moment);
    training.send(SIGKILL);
    CHECK(training.wait().signal == SIGKILL);
    if (fs::exists(csv)) CHECK_NOTHROW(rows_of(content(csv)));
    if (fs::exists(model)) check_model(model);
    CHECK_FALSE(fs::exists(folder / "test.csv"));
  }
  CHECK(fs::exists(csv));
  CHECK(fs::exists(model));
}

TEST_CASE("Fit_curve fits its curve", "[programs]") {
  const Ended ended = run_well("fit_curve", {});
  INFO(ended.out);
  std::istringstream lines(ended.out);
  std::string line;
  std::getline(lines, line);
  CHECK(mentions(line, "mean squared error"));
  int count = 0, step = 0;
  double error = 1, first_error = 0;
  while (lines >> step >> error) {
    if (count++ == 0) first_error = error;
    CHECK(step == 250 * (count - 1));
  }
  CHECK(count == 9);
  CHECK(first_error > 0.1);
  CHECK(error < 1e-3);
  CHECK(error > 0);
}

TEST_CASE("One_shot_images learns from a folder of images, from files to a picture", "[programs]") {
  const Folder folder;
  write_data_set(folder / "images", 6, 4);
  const fs::path out = folder / "out";
  const Arguments arguments{"--data",
                            (folder / "images").string(),
                            "--way",
                            "3",
                            "--pretrain-batches",
                            "3",
                            "--batches",
                            "6",
                            "--validate-every",
                            "3",
                            "--hidden",
                            "12",
                            "--augment",
                            "paper",
                            "--out",
                            out.string()};
  const Ended first = run_well("one_shot_images", arguments);
  CHECK(mentions(first.out, "3-way 1-shot (guessing: 33.3%)"));
  CHECK(names_in(out) == std::vector<std::string>{".lock", "best.safetensors",
                                                  "checkpoint.safetensors", "encoder.safetensors",
                                                  "episode.svg", "progress.csv", "settings.json",
                                                  "test.csv"});
  CHECK(rows_of(content(out / "progress.csv")).size() == 2);
  CHECK(read_safetensors(out / "best.safetensors").metadata.at("encoder") == "conv4");
  const std::string picture = content(out / "episode.svg");
  CHECK(mentions(picture, "data:image/png;base64,iVBORw0KGgo"));
  CHECK(std::count(picture.begin(), picture.end(), '\n') > 4 * 6 * 3);

  // Again: nothing is done twice. With other settings: refused.
  const std::string best = content(out / "best.safetensors");
  CHECK(mentions(run_well("one_shot_images", arguments).out, "had already finished"));
  CHECK(content(out / "best.safetensors") == best);
  Arguments changed = arguments;
  changed.insert(changed.end(), {"--seed", "3"});
  const Ended refused = run("one_shot_images", changed);
  CHECK(refused.code == 1);
  CHECK(mentions(refused.err, "other settings; choose another folder"));
  CHECK(content(out / "best.safetensors") == best);

  // Its encoder serves another run, which trains it on.
  Arguments more{"--data",
                 (folder / "images").string(),
                 "--way",
                 "3",
                 "--batches",
                 "2",
                 "--validate-every",
                 "2",
                 "--hidden",
                 "12",
                 "--pretrain",
                 "none",
                 "--train-encoder",
                 "--rule",
                 "gradient",
                 "--cell",
                 "lstm",
                 "--encoder",
                 (out / "encoder.safetensors").string(),
                 "--out",
                 (folder / "more").string()};
  run_well("one_shot_images", more);
  CHECK(read_safetensors(folder / "more" / "best.safetensors").metadata.at("cell") ==
        "feature_lstm");
}

TEST_CASE("One_shot_images learns from CIFAR-100's binary version", "[programs]") {
  const Folder folder;
  write_cifar(folder / "cifar");
  const std::string out =
      run_well("one_shot_images",
               {"--data", (folder / "cifar").string(), "--pretrain", "contrast",
                "--pretrain-batches", "1", "--batches", "1", "--validate-every", "1", "--hidden",
                "8", "--augment", "paper", "--out", (folder / "out").string()})
          .out;
  CHECK(mentions(out, "On classes that training never showed, 5-way 1-shot"));
  CHECK(read_safetensors(folder / "out" / "best.safetensors").metadata.at("image_channels") == "3");
}

TEST_CASE("One_shot_images refuses what cannot be, by name", "[programs]") {
  const Folder folder;
  check_refusal("one_shot_images", {"--rule", "oja"}, {"--rule", "oja"});
  check_refusal("one_shot_images", {"--pretrain", "none"}, {"--train-encoder"});
  const std::string none = (folder / "none").string();
  check_refusal("one_shot_images", {"--data", none, "--out", (folder / "a").string()}, {none});
  // What was wrong can be put right in the same folder.
  write_data_set(folder / "good", 6, 2);
  run_well("one_shot_images",
           {"--data", (folder / "good").string(), "--pretrain-batches", "1", "--batches", "1",
            "--validate-every", "1", "--hidden", "8", "--out", (folder / "a").string()});
  write_data_set(folder / "images", 2, 2);
  check_refusal("one_shot_images",
                {"--data", (folder / "images").string(), "--out", (folder / "b").string()},
                {"FewShotImages", "classes", "at least 5, got 2"});
  write_plainly(folder / "text.safetensors", "text");
  check_refusal(
      "one_shot_images",
      {"--encoder", (folder / "text.safetensors").string(), "--out", (folder / "c").string()},
      {"text.safetensors"});
}

TEST_CASE("Examples of what one may add to the library do what they say", "[programs]") {
  // The first losses of the cue-reward task are at about 0.4.
  for (const char* name : {"own_rule", "own_cell", "own_task"}) {
    const std::string out = run_well(name, {"200"}).out;
    INFO(out);
    const std::size_t at = out.find_last_of("0123456789", out.find(" ("));
    const std::size_t begin = out.find_last_not_of("0123456789.", at) + 1;
    CHECK(std::stod(out.substr(begin)) < (std::string(name) == "own_task" ? 0.4 : 0.2));
  }
  CHECK(mentions(run_well("own_callback", {"2000"}).out, "ended after "));
  CHECK(mentions(run_well("own_operation", {}).out, "largest difference"));
  const std::string line = run_well("own_objective", {}).out;
  double slope = 0, offset = 0;
  REQUIRE(std::sscanf(line.substr(line.find("y = ")).c_str(), "y = %lf x + %lf", &slope, &offset) ==
          2);
  CHECK(std::abs(slope - 2) < 0.02);
  CHECK(std::abs(offset + 1) < 0.02);
}

TEST_CASE("Adaptive_control trains, steers and tells how long a step takes", "[programs]") {
  const std::string out = run_well("adaptive_control", {"500"}).out;
  INFO(out);
  const auto cost_of = [&](const std::string& name) {
    const std::size_t at = out.find(name + "  batch 500/500  cost ");
    REQUIRE(at != std::string::npos);
    return std::stod(out.substr(out.find("cost ", at) + 5));
  };
  CHECK(cost_of("plastic") < cost_of("plain"));
  CHECK(mentions(out, "the plant has changed"));
  std::istringstream lines(out.substr(out.find("angle in degrees")));
  std::string line;
  int angles = 0;
  while (std::getline(lines, line)) {
    double seconds = 0, plastic = 0, plain = 0;
    if (std::sscanf(line.c_str(), "%lf s %lf %lf", &seconds, &plastic, &plain) != 3) continue;
    ++angles;
    CHECK(std::max(std::abs(plastic), std::abs(plain)) <= 180);
  }
  CHECK(angles == 16);
  CHECK(mentions(out, "Time per step: median "));
}

TEST_CASE("The programs of the first pages learn", "[programs]") {
  // "batch 1000  loss 3e-05" as the last loss that was printed.
  const auto last_loss = [](const std::string& out) {
    INFO(out);
    const std::string word = "loss ";
    const std::size_t at = out.rfind(word);
    REQUIRE(at != std::string::npos);
    return std::stod(out.substr(at + word.size()));
  };
  CHECK(last_loss(run_well("getting_started", {}).out) < 1e-3);
  CHECK(last_loss(run_well("own_loop", {}).out) < 1e-3);
  const std::string out = run_well("by_hand", {}).out;
  CHECK(last_loss(out) < 0.01);
  double expected = 0, comes = 0;
  REQUIRE(std::sscanf(out.substr(out.find("after")).c_str(),
                      "after 30 steps it expects %lf, and %lf", &expected, &comes) == 2);
  CHECK(std::abs(expected - comes) < 0.2);
}

TEST_CASE("State_dict turns a model file into a state dictionary and back", "[programs]") {
  const Folder folder;
  for (const char* name : {"rnn_gradient", "lstm_hebbian", "lstm_none", "rnn_gradient_no_alpha"}) {
    CAPTURE(name);
    const std::string model = fs::path(PLASTIC_TEST_DATA) / (std::string(name) + ".safetensors");
    const std::string dictionary = folder / "dictionary", again = folder / "again";
    run_well("state_dict", {model, dictionary});
    CHECK(read_safetensors(dictionary).tensors.contains("out_weight"));
    run_well("state_dict", {dictionary, again});
    const TensorFile before = read_safetensors(model), after = read_safetensors(again);
    for (const auto& [tensor, values] : after.tensors) {
      CAPTURE(tensor);
      CHECK(std::ranges::equal(values.bytes(), before.tensor(tensor).bytes()));
    }
    CHECK(plastic::setting(after.metadata, "eta0") == plastic::setting(before.metadata, "eta0"));
  }
  const std::string image = folder / "no_model";
  std::ofstream(image) << "text";
  const Ended refused = run("state_dict", {image, folder / "never"});
  CHECK(refused.code == 1);
  CHECK(mentions(refused.err, image));
  CHECK_FALSE(fs::exists(folder / "never"));
}

// Code in the documents is code that compiles or runs: every block names the file that it is part
// of.
TEST_CASE("The programs of the training page learn to classify", "[programs]") {
  CHECK(mentions(run_well("ragged", {}).out, "right: 100%"));
  const std::string out = run_well("key_value", {"3000"}).out;
  INFO(out);
  CHECK(std::stod(out.substr(out.find("right: ") + 7)) > 98);
}

TEST_CASE("A training run that is killed at any moment ends with the bits of one left alone",
          "[programs]") {
  // In a folder of the test's own, since the program writes where it is.
  const Folder folder;
  const auto command = [&](const std::string& name) {
    fs::create_directories(folder / name);
    return Arguments{"-c", "cd '" + (folder / name).string() + "' && exec '" +
                               (fs::path(PLASTIC_PROGRAMS) / "train").string() + "' 600"};
  };
  const std::string shell = "/bin/sh";
  const std::string whole = run_well(shell, command("whole")).out;
  std::mt19937 random{std::random_device()()};
  int kills = 0;
  for (int k = 0; k < 6; ++k) {
    Process process(shell, command("killed"));
    std::this_thread::sleep_for(
        std::chrono::milliseconds(std::uniform_int_distribution<int>(0, 1500)(random)));
    if (!process.running()) break;
    process.send(SIGKILL);
    CHECK(process.wait().signal == SIGKILL);
    ++kills;
  }
  CHECK(kills > 0);
  const std::string killed = run_well(shell, command("killed")).out;
  CHECK(killed.substr(killed.find("stopped after")) == whole.substr(whole.find("stopped after")));
  CHECK(content(folder / "killed/train.safetensors") ==
        content(folder / "whole/train.safetensors"));
  CHECK(losses(folder / "killed/train.csv") == losses(folder / "whole/train.csv"));
  CHECK(same_checkpoints(folder / "killed/train.checkpoint", folder / "whole/train.checkpoint"));
}

TEST_CASE("Each folder of the library includes only folders that stand above it in the table",
          "[programs]") {
  const fs::path root = fs::path(PLASTIC_TEST_DATA).parent_path().parent_path();
  std::istringstream page(content(root / "docs" / "architecture.md"));
  std::vector<std::string> rooms;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("| `")) rooms.push_back(line.substr(3, line.find("/`") - 3));
  }
  REQUIRE(rooms.size() == 13);
  const auto floor_of = [&](const std::string& room) {
    INFO(room);
    const auto found = std::find(rooms.begin(), rooms.end(), room);
    REQUIRE(found != rooms.end());
    return found - rooms.begin();
  };
  const fs::path include = root / "include/plastic";
  for (const auto& entry : fs::recursive_directory_iterator(include)) {
    if (!entry.is_regular_file() || entry.path().parent_path() == include) continue;
    const std::string room = *fs::relative(entry.path(), include).begin();
    const std::string text = content(entry.path()), mark = "#include \"plastic/";
    CHECK(std::count(text.begin(), text.end(), '\n') <= 400);
    for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + 1)) {
      const std::string header =
          text.substr(at + mark.size(), text.find('"', at + mark.size()) - at - mark.size());
      INFO(entry.path() << ": " << header);
      const std::string other = header.substr(0, header.find('/'));
      CHECK(floor_of(other) <= floor_of(room));
      if (header.find("/detail/") != std::string::npos) CHECK(other == room);
    }
  }
}

TEST_CASE("No header needs what the older of clang's standard libraries lack", "[programs]") {
  const fs::path root = fs::path(PLASTIC_TEST_DATA).parent_path().parent_path();
  for (const auto& entry : fs::recursive_directory_iterator(root / "include/plastic")) {
    if (!entry.is_regular_file()) continue;
    INFO(entry.path());
    const std::string text = content(entry.path());
    CHECK_FALSE(mentions(text, "std::ranges::"));
    CHECK_FALSE(mentions(text, "std::bit_cast"));
  }
}

TEST_CASE("Every block of code in the documents is part of a file that is tested", "[programs]") {
  const fs::path root = fs::path(PLASTIC_TEST_DATA).parent_path().parent_path();
  std::vector<fs::path> documents{root / "README.md"};
  for (const auto& entry : fs::recursive_directory_iterator(root / "docs")) {
    if (entry.path().extension() == ".md") documents.push_back(entry.path());
  }
  int blocks = 0;
  for (const fs::path& document : documents) {
    const std::string text = content(document);
    for (const std::string fence : {"```cpp\n", "```python\n"}) {
      for (std::size_t at = text.find(fence); at != std::string::npos;
           at = text.find(fence, at + 1)) {
        ++blocks;
        const std::size_t begin = at + fence.size();
        const std::string block = text.substr(begin, text.find("```", begin) - begin);
        const std::size_t mark = text.rfind("<!-- ", at);
        INFO(document << ": " << block);
        REQUIRE(mark != std::string::npos);
        const std::string name = text.substr(mark + 5, text.find(" -->", mark) - mark - 5);
        REQUIRE(text.substr(mark + 5 + name.size() + 5, at - mark - 10 - name.size()).empty());
        CHECK(mentions(content(root / name), block));
      }
    }
  }
  CHECK(blocks >= 10);
}

TEST_CASE("Every link between the documents leads somewhere", "[programs]") {
  const fs::path root = fs::path(PLASTIC_TEST_DATA).parent_path().parent_path();
  std::vector<fs::path> documents{root / "README.md", root / "CONTRIBUTING.md"};
  for (const auto& entry : fs::recursive_directory_iterator(root / "docs")) {
    if (entry.path().extension() == ".md") documents.push_back(entry.path());
  }
  int links = 0;
  for (const fs::path& document : documents) {
    std::string text = content(document);
    const std::string fence = "\n```";  // what it encloses is code
    for (std::size_t at = text.find(fence); at != std::string::npos; at = text.find(fence)) {
      text.erase(at, text.find(fence, at + 1) + fence.size() - at);
    }
    for (std::size_t at = text.find("]("); at != std::string::npos; at = text.find("](", at + 1)) {
      std::string target = text.substr(at + 2, text.find(')', at) - at - 2);
      const bool is_code = target.find(' ') != std::string::npos;
      if (is_code || target.starts_with("http") || target.starts_with("#")) continue;
      target = target.substr(0, target.find('#'));
      INFO(document << ": " << target);
      CHECK(fs::exists(document.parent_path() / target));
      ++links;
    }
  }
  CHECK(links >= 20);
}

TEST_CASE("What \"I need X, use Y\" names is in the header that it names", "[programs]") {
  const fs::path root = fs::path(PLASTIC_TEST_DATA).parent_path().parent_path();
  std::istringstream page(content(root / "docs" / "i_need.md"));
  int rows = 0;
  for (std::string line; std::getline(page, line);) {
    const std::size_t last = line.rfind(" | "), end = line.rfind(".hpp |");
    if (last == std::string::npos || end == std::string::npos) continue;
    ++rows;
    INFO(line);
    const fs::path header = root / "include/plastic" / line.substr(last + 3, end + 1 - last);
    REQUIRE(fs::exists(header));
    // An alias may be in what the header includes.
    const std::string own = content(header), mark = "\"plastic/";
    std::string declared = own;
    for (std::size_t at = own.find(mark); at != std::string::npos; at = own.find(mark, at + 1)) {
      declared += content(root / "include" / own.substr(at + 1, own.find('"', at + 1) - at - 1));
    }
    const std::size_t use = line.find(" | ", 1), tick = line.find('`', use);
    if (tick > last) continue;
    const std::size_t after = line.find_first_of("`<:, ", tick + 1);
    CHECK(mentions(declared, line.substr(tick + 1, after - tick - 1)));
  }
  CHECK(rows > 50);
}
