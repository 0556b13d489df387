// graft verify: reference cases, computed again and compared.
#include <cmath>

#include "cli/command.h"
#include "graft/base/error.h"
#include "graft/io/safetensors.h"
#include "graft/session/golden_case.h"

namespace graft::cli {
namespace {

struct VerifyOptions {
  std::vector<std::string> cases;
  std::string out;
};

/// Folders of cases are taken apart into their cases.
std::vector<std::filesystem::path> case_folders(const std::vector<std::string>& given) {
  std::vector<std::filesystem::path> folders;
  for (const std::string& text : given) {
    const std::filesystem::path path = text;
    if (!std::filesystem::is_directory(path))
      throw DataError(text, "no such folder, expected a reference case");
    if (std::filesystem::exists(path / "case.json")) {
      folders.push_back(path);
      continue;
    }
    std::vector<std::filesystem::path> inside;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.is_directory()) inside.push_back(entry.path());
    }
    if (inside.empty()) throw DataError(text, "no case.json, expected a reference case");
    std::sort(inside.begin(), inside.end());
    folders.insert(folders.end(), inside.begin(), inside.end());
  }
  return folders;
}

CaseReport run_or_report(const std::filesystem::path& folder) {
  try {
    return run_case(folder);
  } catch (const std::exception& error) {  // one case's failure is not the others'
    CaseReport report;
    report.name = folder.filename().string();
    report.share = std::numeric_limits<double>::infinity();
    report.problems = {error.what()};
    return report;
  }
}

Json document_of(const CaseReport& report) {
  return {{"case", report.name},
          {"passed", report.problems.empty()},
          {"share", std::isfinite(report.share) ? Json(report.share) : Json(nullptr)},
          {"worst", report.worst},
          {"problems", report.problems}};
}

void print_case(const CaseReport& report) {
  constexpr size_t kShown = 12;
  fmt::print("{:42} {:9.3f}  {}{}\n", report.name, report.share, report.problems.empty() ? "" : "FAIL ",
             report.worst);
  for (size_t i = 0; i < report.problems.size() && i < kShown; ++i)
    fmt::print("    {}\n", report.problems[i]);
  if (report.problems.size() > kShown) fmt::print("    and {} more\n", report.problems.size() - kShown);
}

int run(const VerifyOptions& options, const Globals& globals) {
  if (!options.out.empty()) std::filesystem::create_directories(options.out);
  Json rows = Json::array();
  size_t failed = 0;
  for (const std::filesystem::path& folder : case_folders(options.cases)) {
    const CaseReport report = run_or_report(folder);
    failed += report.problems.empty() ? 0 : 1;
    if (!options.out.empty() && !report.computed.empty()) {
      write_safetensors(std::filesystem::path(options.out) / (report.name + ".safetensors"), report.computed);
    }
    if (!globals.json) print_case(report);
    rows.push_back(document_of(report));
  }
  const Json document = {{"cases", rows}, {"passed", rows.size() - failed}, {"failed", failed}};
  print_result(globals, document, fmt::format("{} cases passed, {} failed", rows.size() - failed, failed));
  return failed == 0 ? 0 : 1;
}

}  // namespace

Run define_verify(CLI::App& app, const Globals& globals) {
  auto options = std::make_shared<VerifyOptions>();
  app.add_option("cases", options->cases, "folders of reference cases, or folders that hold such")
      ->required();
  app.add_option("--out", options->out, "folder for what was computed, a file a case");
  return [options, &globals] { return run(*options, globals); };
}

}  // namespace graft::cli
