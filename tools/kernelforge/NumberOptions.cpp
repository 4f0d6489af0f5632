#include "NumberOptions.h"

using namespace kernelforge;
using namespace kernelforge::cli;

CLI::Option *cli::addChecked(CLI::App &command, const std::string &names, const char *kind,
                             const std::string &help,
                             std::function<std::string(const std::vector<std::string> &)> read,
                             std::function<std::string()> shown) {
  // Errors name an option as a user writes it: the long name where it has one.
  const std::string name = names.substr(names.rfind(',') + 1);
  auto self = std::make_shared<CLI::Option *>();
  auto parse = [self, name, read = std::move(read)](const CLI::results_t &) {
    // As they were given: what CLI11 makes of them has a mark of its own behind "{}".
    if (const std::string complaint = read((*self)->results()); !complaint.empty())
      throw CLI::ValidationError(name, complaint);
    return true;
  };
  *self = command.add_option(names, parse, help, false, std::move(shown))->type_name(kind);
  return *self;
}

CLI::Option *cli::addTexts(CLI::App &command, const std::string &names,
                           std::vector<std::string> &texts, const std::string &help) {
  auto read = [&texts](const std::vector<std::string> &given) {
    texts = given;
    return std::string();
  };
  return addChecked(command, names, "TEXT", help, read, nullptr)->expected(1, mostListValues);
}

std::string cli::withLimits(const std::string &help, const std::string &low,
                            const std::string &high) {
  return help + " (" + low + " to " + high + ")";
}

std::vector<std::string> cli::splitList(const std::vector<std::string> &texts) {
  std::vector<std::string> parts;
  for (const std::string &text : texts)
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      parts.push_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
  return parts;
}
