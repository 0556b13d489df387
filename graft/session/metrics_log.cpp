#include "graft/session/metrics_log.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <sstream>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/session/machine.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEvents = "events.out.tfevents.";

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// The lines of whole documents with a step up to `step`.
std::vector<Json> lines_up_to(const fs::path& path, int64_t step) {
  std::vector<Json> lines;
  if (step == 0 || !fs::exists(path)) return lines;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);) {
    const Json document = Json::parse(line, nullptr, false);
    if (!document.is_object() || !document.contains("step") || !document["step"].is_number_integer()) break;
    if (document["step"].get<int64_t>() > step) break;
    lines.push_back(document);
  }
  return lines;
}

/// Everything in a line that is a number, as train/NAME and validation/NAME.
std::vector<std::pair<std::string, double>> scalars_of(const Json& line) {
  std::vector<std::pair<std::string, double>> scalars;
  for (const auto& [key, value] : line.items()) {
    if (key == "step" || key == "time") continue;
    if (value.is_number()) scalars.emplace_back("train/" + key, value.get<double>());
    if (!value.is_object()) continue;
    for (const auto& [name, number] : value.items()) {
      if (number.is_number()) scalars.emplace_back(key + "/" + name, number.get<double>());
    }
  }
  return scalars;
}

double time_of(const Json& line) {
  return line.contains("time") && line["time"].is_number() ? line["time"].get<double>() : 0;
}

/// The event file that is there, others removed; a new name where there is none.
fs::path events_path(const fs::path& folder) {
  fs::path path;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with(kEvents)) path = entry.path();
  }
  if (!path.empty()) return path;
  char host[256] = "localhost";
  gethostname(host, sizeof host - 1);
  return folder / fmt::format("{}{}.{}.{}", kEvents, static_cast<int64_t>(wall_time()), host, getpid());
}

Json line_of(const StepReport& report) {
  Json line = {{"step", report.step},
               {"epoch", report.epoch},
               {"loss", report.loss},
               {"learning_rate", report.learning_rate},
               {"grad_norm", report.gradient_norm},
               {"tokens", report.tokens},
               {"tokens_per_second", static_cast<double>(report.tokens) / std::max(report.seconds, 1e-9)},
               {"memory", memory_bytes()},
               {"time", wall_time()}};
  if (report.evaluation) line["validation"] = report.evaluation->json();
  return line;
}

}  // namespace

MetricsLog::MetricsLog(const fs::path& folder, int64_t step) : path_(folder / "metrics.jsonl") {
  const std::vector<Json> lines = lines_up_to(path_, step);
  std::string text;
  for (const Json& line : lines) text += line.dump() + "\n";
  write_file(path_, text);
  file_ = std::fopen(path_.c_str(), "ab");
  if (!file_) throw DataError(path_.string(), "cannot be written: {}", std::strerror(errno));
  events_ = std::make_unique<EventFile>(events_path(folder), lines.empty() ? wall_time() : time_of(lines[0]));
  for (const Json& line : lines) events_->add(time_of(line), line["step"].get<int64_t>(), scalars_of(line));
}

MetricsLog::~MetricsLog() {
  if (file_) std::fclose(file_);
}

void MetricsLog::add(const StepReport& report) {
  const Json line = line_of(report);
  const std::string text = line.dump() + "\n";
  if (std::fwrite(text.data(), 1, text.size(), file_) != text.size() || std::fflush(file_) != 0) {
    throw DataError(path_.string(), "cannot be written: {}", std::strerror(errno));
  }
  events_->add(time_of(line), report.step, scalars_of(line));
}

}  // namespace graft
