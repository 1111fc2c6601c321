#include "status.hpp"

#include <array>
#include <charconv>
#include <fstream>
#include <optional>
#include <stdexcept>

#include "../folder_lock.hpp"
#include "run.hpp"
#include "stop.hpp"

namespace experiments {

namespace fs = std::filesystem;

Index batches_done(const fs::path& folder) {
  const fs::path path = folder / "checkpoint.safetensors";
  std::ifstream file(path, std::ios::binary);
  if (!file) return 0;
  // Its header alone: 8 bytes that say how long it is, and JSON. The rest may be large.
  std::array<char, 8> bytes{};
  std::uint64_t size = 0;
  file.read(bytes.data(), bytes.size());
  for (std::size_t k = bytes.size(); k-- > 0;) {
    size = (size << 8) | static_cast<unsigned char>(bytes[k]);
  }
  Index done = -1;
  if (file && size <= fs::file_size(path)) {
    std::string header(size, '\0');
    file.read(header.data(), static_cast<std::streamsize>(size));
    const Json json = Json::parse(header, nullptr, false);
    const Json::json_pointer at("/__metadata__/state.batches_done");
    if (json.is_object() && json.contains(at) && json.at(at).is_string()) {
      const std::string text = json.at(at);
      std::from_chars(text.data(), text.data() + text.size(), done);
    }
  }
  if (done < 0) throw std::runtime_error(path.string() + " is damaged");
  return done;
}

RunStatus status_of(const ListedRun& run, const Jobs& jobs, std::chrono::seconds dead_after) {
  using Kind = RunStatus::Kind;
  const std::string name = run.folder.filename();
  // The lock is looked at before the result: a run that ends in between is then finished.
  std::optional<FolderHolder> holder;
  std::string fault;
  try {
    if (fs::exists(run.folder)) holder = FolderLock::holder(run.folder, dead_after);
  } catch (const std::runtime_error& error) {
    fault = error.what();
  }
  const std::string failed = last_line(run.folder / "failed.txt");
  if (is_finished(run.folder)) return {Kind::finished, "finished"};
  std::string done;
  try {
    done = std::to_string(batches_done(run.folder)) + " of " + text_of(run.settings.at("batches")) +
           " batches";
  } catch (const std::runtime_error& error) {
    done = error.what();
    if (fault.empty()) fault = done + "; remove it to begin this run anew";
  }
  if (holder && holder->alive) return {Kind::running, "running on " + holder->host + ", " + done};
  if (const auto at = jobs.queued.find(name); at != jobs.queued.end()) {
    const QueuedTask& task = at->second;
    if (task.state == "RUNNING") {
      return {Kind::running, "starting or ending on " + task.node + ", " + done};
    }
    const bool says_why = !task.reason.empty() && task.reason != "None";
    return {Kind::waiting,
            "waiting (task " + task.task + (says_why ? ": " + task.reason : "") + "), " + done};
  }
  if (!fault.empty()) return {Kind::failed, "failed: " + fault};
  if (!failed.empty()) return {Kind::failed, "failed after " + done + ": " + failed};
  if (const auto at = jobs.logs.find(name); at != jobs.logs.end()) {
    const std::string said = last_line(at->second);
    if (said.ends_with(stopped_text)) return {Kind::waiting, "stopped, " + done};
    if (!said.empty()) return {Kind::failed, "failed after " + done + ": " + said};
  }
  return {Kind::waiting, "waiting, " + done + (holder ? "; " + holder->text() + " is dead" : "")};
}

}  // namespace experiments
